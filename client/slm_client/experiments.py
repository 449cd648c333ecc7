"""`client.experiments`: create, watch, cancel, resume, delete; attempts, checkpoints, curves, logs, events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx2

from slm_client.answers import Checkpoint, Curve, Event, Experiment, ExperimentDetail, Log, Run
from slm_client.events import follow
from slm_client.plans import Plan
from slm_client.polling import until_ended
from slm_client.transport import CONNECT_SECONDS, Transport, segment

PLAN_SECONDS = 600.0
"""How long an answer to a measured plan may take: others may be measured first."""


class Experiments:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        *,
        base_model_id: str,
        training_dataset_id: str,
        eval_dataset_id: str | None = None,
        training_config: Mapping[str, Any] | None = None,
        executor: str | None = None,
        description: str = "",
        goal: str | None = None,
    ) -> ExperimentDetail:
        """Ask for a training; it starts by itself. What `training_config` leaves out is resolved and shown."""
        body: dict[str, Any] = {
            "name": name,
            "description": description,
            "goal": goal,
            "base_model_id": base_model_id,
            "training_dataset_id": training_dataset_id,
            "eval_dataset_id": eval_dataset_id,
            "training_config": dict(training_config or {}),
        }
        if executor is not None:
            body["executor"] = executor
        return ExperimentDetail.read(self._transport.json("POST", "/experiments", json=body))

    def plan(
        self,
        *,
        base_model_id: str,
        training_dataset_id: str,
        eval_dataset_id: str | None = None,
        training_config: Mapping[str, Any] | None = None,
        executor: str | None = None,
        measure: bool = False,
    ) -> Plan:
        """What such a training would take, without creating it; with `measure` by a few real steps (a minute or two).

        Raises whatever `create` would raise.
        """
        body: dict[str, Any] = {
            "base_model_id": base_model_id,
            "training_dataset_id": training_dataset_id,
            "eval_dataset_id": eval_dataset_id,
            "training_config": dict(training_config or {}),
        }
        if executor is not None:
            body["executor"] = executor
        timeout = httpx2.Timeout(PLAN_SECONDS, connect=CONNECT_SECONDS)
        params = {"measure": "true"} if measure else {}
        return Plan.read(self._transport.json("POST", "/experiments/plan", params=params, json=body, timeout=timeout))

    def list(self, *, status: str | None = None, limit: int | None = None) -> Sequence[Experiment]:
        """Newest first; all, or the newest `limit`."""
        params = {"status": status, "limit": limit}
        return [Experiment.read(row) for row in self._transport.json("GET", "/experiments", params=params)]

    def iterate(self, *, status: str | None = None, page_size: int = 200) -> Iterator[Experiment]:
        """Newest first, page by page."""
        rows = self._transport.pages("/experiments", {"status": status}, page_size=page_size)
        return (Experiment.read(row) for row in rows)

    def get(self, experiment_id: str) -> ExperimentDetail:
        return ExperimentDetail.read(self._transport.json("GET", self._path(experiment_id)))

    def cancel(self, experiment_id: str, *, save: bool = True) -> ExperimentDetail:
        """Ask its run to stop, keeping a checkpoint where `save`. Raises `Conflict` where it has ended."""
        return ExperimentDetail.read(
            self._transport.json("POST", f"{self._path(experiment_id)}/cancel", json={"save": save})
        )

    def resume(self, experiment_id: str) -> ExperimentDetail:
        """Go on from the last checkpoint as a new run. Raises `Conflict` where that makes no sense."""
        return ExperimentDetail.read(self._transport.json("POST", f"{self._path(experiment_id)}/resume"))

    def reproduce(self, experiment_id: str) -> ExperimentDetail:
        """Do it again with the same spec, data and seed; once ended, `reproduction` says whether it is identical."""
        return ExperimentDetail.read(self._transport.json("POST", f"{self._path(experiment_id)}/reproduce"))

    def delete(self, experiment_id: str) -> None:
        """With its runs, checkpoints and evaluations. Raises `Conflict` while it runs."""
        self._transport.json("DELETE", self._path(experiment_id))

    def runs(self, experiment_id: str) -> Sequence[Run]:
        """Its attempts, newest first."""
        return [Run.read(row) for row in self._transport.json("GET", f"{self._path(experiment_id)}/runs")]

    def checkpoints(self, experiment_id: str) -> Sequence[Checkpoint]:
        rows = self._transport.json("GET", f"{self._path(experiment_id)}/checkpoints")
        return [Checkpoint.read(row) for row in rows]

    def logs(self, experiment_id: str, *, tail: int | None = None) -> Log:
        """The last `tail` lines that its process wrote."""
        return Log.read(self._transport.json("GET", f"{self._path(experiment_id)}/logs", params={"tail": tail}))

    def metrics(
        self, experiment_id: str, *, keys: Sequence[str] = (), since: int | None = None, points: int | None = None
    ) -> dict[str, Curve]:
        """Its curves by name, from events after number `since`, thinned to `points` each."""
        params = {"keys": ",".join(keys) or None, "since": since, "points": points}
        columns = self._transport.json("GET", f"{self._path(experiment_id)}/metrics", params=params)
        return {name: Curve.read(column) for name, column in columns.items()}

    def events(
        self, experiment_id: str, *, since: int = 0, limit: int | None = None, types: Sequence[str] = ()
    ) -> Sequence[Event]:
        """What its runs reported after number `since`, oldest first, as far as it is known now; all or some types."""
        params = {"since": since, "limit": limit, "types": ",".join(types) or None}
        rows = self._transport.json("GET", f"{self._path(experiment_id)}/events", params=params)
        return [Event.read(row) for row in rows]

    def follow(self, experiment_id: str, *, since: int = 0, patience: float = 60.0) -> Iterator[Event]:
        """Each event after number `since` once and in order, as it comes, until the experiment has ended.

        A stream; where it breaks it is resumed after the last event, and where streams do not get through (a proxy)
        the events are polled. A service that is away longer than `patience` seconds raises `ServiceUnreachable`.
        """
        return follow(
            self._transport,
            f"{self._path(experiment_id)}/events",
            since=since,
            patience=patience,
            ended=lambda: self.get(experiment_id).ended,
        )

    def watch(self, experiment_id: str, *, interval: float = 1.0, patience: float = 60.0) -> Iterator[ExperimentDetail]:
        """The experiment again and again until it has ended; the last item is how it ended."""
        return until_ended(lambda: self.get(experiment_id), interval=interval, patience=patience)

    def wait(self, experiment_id: str, *, interval: float = 1.0, patience: float = 60.0) -> ExperimentDetail:
        """Wait until the experiment has ended."""
        return [*self.watch(experiment_id, interval=interval, patience=patience)][-1]

    @staticmethod
    def _path(experiment_id: str) -> str:
        return f"/experiments/{segment(experiment_id)}"
