"""Evaluations: what runs proved."""

from __future__ import annotations

import service
from components import pages, states, tables


def show() -> None:
    pages.header("Evaluations", lead="What trainings achieved on rows they did not learn from.")
    client = service.client()
    evaluations = client.evaluations.list()
    if not evaluations:
        states.empty("Nothing was evaluated yet. A finished training brings its evaluation.")
        return
    names = {experiment.id: experiment.name for experiment in client.experiments.list()}
    rows = [
        {
            "experiment": names.get(evaluation.experiment_id, "deleted"),
            "simulated": evaluation.simulated,
            "created": evaluation.created_at,
        }
        for evaluation in evaluations
    ]
    columns = {"experiment": "Run", "simulated": "Simulated", "created": tables.moment_column("Finished")}
    tables.show(rows, key="evaluations", columns=columns, file_name="evaluations")
