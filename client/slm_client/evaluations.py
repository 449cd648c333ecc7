"""`client.evaluations`: what runs proved, and scoring any model on any data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slm_client.answers import Evaluation, EvaluationDetail, Run, Sample
from slm_client.transport import Transport, segment


class Evaluations:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        experiment_id: str | None = None,
        model_id: str | None = None,
        dataset_id: str | None = None,
        limit: int | None = None,
    ) -> Sequence[Evaluation]:
        """Newest first; all, or the newest `limit`. Without a model or dataset, only those of experiments."""
        params = {"experiment_id": experiment_id, "model_id": model_id, "dataset_id": dataset_id, "limit": limit}
        return [Evaluation.read(row) for row in self._transport.json("GET", "/evaluations", params=params)]

    def iterate(self, *, experiment_id: str | None = None, page_size: int = 200) -> Iterator[Evaluation]:
        """Newest first, page by page."""
        rows = self._transport.pages("/evaluations", {"experiment_id": experiment_id}, page_size=page_size)
        return (Evaluation.read(row) for row in rows)

    def get(self, evaluation_id: str) -> EvaluationDetail:
        return EvaluationDetail.read(self._transport.json("GET", f"/evaluations/{segment(evaluation_id)}"))

    def create(self, model_id: str, dataset_id: str) -> Run:
        """Score a model on a dataset; watch the run with `client.runs.wait`, its `result` holds the `evaluation_id`.

        Raises `Conflict` where weights are not there, `Invalid` where the data do not suit the model.
        """
        body = {"model_id": model_id, "dataset_id": dataset_id}
        return Run.read(self._transport.json("POST", "/evaluations", json=body))

    def delete(self, evaluation_id: str) -> None:
        """With its samples; the model stays."""
        self._transport.json("DELETE", f"/evaluations/{segment(evaluation_id)}")

    def samples(self, evaluation_id: str, *, offset: int = 0, limit: int = 50) -> Sequence[Sample]:
        """Row by row: what was expected, what base and tuned model answered."""
        params = {"offset": offset, "limit": limit}
        rows = self._transport.json("GET", f"/evaluations/{segment(evaluation_id)}/samples", params=params)
        return [Sample.read(row) for row in rows]
