"""Train: what there is to train on."""

from __future__ import annotations

import service
from components import pages, states, tables


def show() -> None:
    pages.header("Train", lead="Pick data and a base model; the rest has sensible values.")
    client = service.client()
    datasets = client.datasets.list(dataset_type="training")
    if not datasets:
        states.empty("There is no training data yet.")
        pages.link("datasets", "Upload data")
        return
    rows = [{"name": dataset.name, "rows": dataset.row_count, "created": dataset.created_at} for dataset in datasets]
    columns = {"name": "Data", "rows": "Rows", "created": tables.moment_column("Uploaded")}
    tables.show(rows, key="train_data", columns=columns, file_name="training-data")
