"""Where a model comes from and what became of it: a graph of rows, and of what is still known of deleted ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.models import Dataset, Evaluation, Experiment, Model, Run
from app.services import model as models
from app.services.references import method_of

_LEARNS = {"training": "is learned in", "evaluation": "is scored in"}


def graph(session: Session, model_id: str) -> dict[str, Any]:
    """Nodes and edges around the model: everything before it down to the base, and its evaluations and exports."""
    found = _Graph(session)
    model = models.get(session, model_id)
    found.add_ancestry(model)
    found.add_descent(model)
    return {"nodes": list(found.nodes.values()), "edges": found.edges}


class _Graph:
    def __init__(self, session: Session) -> None:
        self._session = session
        self.nodes: dict[str, dict[str, Any]] = {}
        self.edges: list[dict[str, str]] = []

    def add_ancestry(self, model: Model) -> None:
        """The model, what it was trained from and on, and the same of that, down to the base."""
        self._model(model)
        if model.base_model_id is None:
            return
        base = self._session.get(Model, model.base_model_id)
        if base is None:
            self._node(model.base_model_id, "model", "deleted model", {}, missing=True)
        else:
            self.add_ancestry(base)
        experiment_id = model.experiment_id or f"experiment of {model.id}"
        experiment = self._session.get(Experiment, experiment_id)
        method = method_of(model)
        details: dict[str, Any] = {"method": method.value if method is not None else None}
        if experiment is not None:
            details |= {"status": experiment.status, "seed": experiment.seed, "adapter": experiment.adapter}
        name = experiment.name if experiment is not None else model.name
        self._node(experiment_id, "experiment", name, details, missing=experiment is None)
        self._edge(model.base_model_id, experiment_id, "is trained in")
        self._data(model, experiment, experiment_id)
        run = self._session.get(Run, experiment.run_id) if experiment is not None and experiment.run_id else None
        if run is None:
            self._edge(experiment_id, model.id, "made")
            return
        said = {"state": run.state, "attempt": run.attempt, "executor": run.executor}
        self._node(run.id, "run", f"attempt {run.attempt}", said)
        self._edge(experiment_id, run.id, "ran as")
        self._edge(run.id, model.id, "made")

    def add_descent(self, model: Model) -> None:
        """What was measured of the model, and the forms in which it left."""
        query = select(Evaluation).where(Evaluation.model_id == model.id).order_by(Evaluation.created_at)
        for row in self._session.scalars(query):
            details = {
                "metrics": row.metrics,
                "verdict": (row.details or {}).get("verdict"),
                "simulated": row.simulated,
            }
            dataset = self._session.get(Dataset, row.dataset_id) if row.dataset_id else None
            name = f"on {dataset.name}" if dataset is not None else "on deleted data"
            self._node(row.id, "evaluation", name, details)
            self._edge(model.id, row.id, "was scored in")
            if dataset is not None:
                self._dataset(dataset)
                self._edge(dataset.id, row.id, "gave the rows")
        runs = select(Run).where(Run.model_id == model.id, Run.task == "export").order_by(Run.id)
        for run in self._session.scalars(runs):
            format_ = str(run.spec["format"])
            self._node(run.id, "export", format_, {"format": format_, "state": run.state})
            self._edge(model.id, run.id, "was exported as")

    def _data(self, model: Model, experiment: Experiment | None, experiment_id: str) -> None:
        """The datasets, by the digests that the model remembers where their rows are gone."""
        details: Mapping[str, Any] = model.details or {}
        digests: Mapping[str, str] = details.get("dataset_digests") or {}
        given = {"training": None, "evaluation": None} if experiment is None else {
            "training": experiment.training_dataset_id, "evaluation": experiment.eval_dataset_id,
        }  # fmt: skip
        for role, identity in given.items():
            digest = digests.get(role)
            dataset = self._session.get(Dataset, identity) if identity else self._by_digest(digest)
            if dataset is not None:
                self._dataset(dataset)
                self._edge(dataset.id, experiment_id, _LEARNS[role])
            elif digest:
                self._node(f"sha256:{digest}", "dataset", "deleted dataset", {"sha256": digest}, missing=True)
                self._edge(f"sha256:{digest}", experiment_id, _LEARNS[role])

    def _by_digest(self, digest: str | None) -> Dataset | None:
        if not digest:
            return None
        query = select(Dataset).where(Dataset.sha256 == digest).order_by(Dataset.created_at)
        return self._session.scalars(query).first()

    def _dataset(self, dataset: Dataset) -> None:
        """With what it was split from, as far back as that is known."""
        if dataset.id in self.nodes:
            return
        details = {"sha256": dataset.sha256, "rows": dataset.row_count, "kind": dataset.kind}
        self._node(dataset.id, "dataset", dataset.name, details)
        origin: Mapping[str, Any] = dataset.origin or {}
        if not origin.get("dataset_id"):
            return
        whole = self._session.get(Dataset, origin["dataset_id"])
        if whole is not None:
            self._dataset(whole)
        else:
            known = {"sha256": origin.get("sha256")}
            self._node(origin["dataset_id"], "dataset", str(origin.get("name")), known, missing=True)
        self._edge(origin["dataset_id"], dataset.id, f"was split, {origin.get('part')}")

    def _model(self, model: Model) -> None:
        details: Mapping[str, Any] = model.details or {}
        detail = details.get("weights_detail") or {}
        said = {
            "model_type": model.model_type,
            "version": model.version,
            "sha256": details.get("sha256") or detail.get("sha256"),
            "license": details.get("license"),
            "simulated": model.simulated,
        }
        self._node(model.id, "model", model.name, said)

    def _node(self, identity: str, type_: str, name: str, details: Mapping[str, Any], *, missing: bool = False) -> None:
        self.nodes.setdefault(
            identity,
            {"id": identity, "type": type_, "name": name, "details": dict(details), "missing": missing},
        )

    def _edge(self, source: str, target: str, label: str) -> None:
        edge = {"source": source, "target": target, "label": label}
        if edge not in self.edges:
            self.edges.append(edge)
