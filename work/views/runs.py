"""Runs: every experiment with how it went."""

from __future__ import annotations

import service
from components import badges, pages, states, tables


def show() -> None:
    pages.header("Runs", lead="Every training that was asked for, newest first.")
    client = service.client()
    experiments = client.experiments.list()
    if not experiments:
        states.empty("Nothing was trained yet.")
        pages.link("train", "Train a model")
        return
    names = {model.id: model.name for model in client.models.list()}
    rows = [
        {
            "name": experiment.name,
            "status": badges.words(experiment.status, simulated=experiment.simulated),
            "base": names.get(experiment.base_model_id, "deleted"),
            "created": experiment.created_at,
        }
        for experiment in experiments
    ]
    columns = {
        "name": "Name",
        "status": badges.column(),
        "base": "Base model",
        "created": tables.moment_column("Created"),
    }
    chosen = tables.show(rows, key="runs", columns=columns, choose="single-row", file_name="runs")
    for position in chosen:
        pages.link("run", f"Open {experiments[position].name}", id=experiments[position].id)
