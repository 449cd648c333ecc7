"""Datasets: the files that models learn from and are scored on."""

from __future__ import annotations

import service
from components import pages, states, tables


def show() -> None:
    pages.header("Datasets", lead="Files to learn from and to be scored on.")
    datasets = service.client().datasets.list()
    if not datasets:
        states.empty("There is no data yet.")
        return
    rows = [
        {
            "name": dataset.name,
            "purpose": dataset.dataset_type,
            "rows": dataset.row_count,
            "created": dataset.created_at,
        }
        for dataset in datasets
    ]
    columns = {"name": "Name", "purpose": "For", "rows": "Rows", "created": tables.moment_column("Uploaded")}
    tables.show(rows, key="datasets", columns=columns, file_name="datasets")
