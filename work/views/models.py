"""Models: the bases to start from and what came of them."""

from __future__ import annotations

import service
from components import pages, tables, words


def show() -> None:
    pages.header("Models", lead="Bases to start from, and what was made of them.")
    models = service.client().models.list()
    rows = [
        {
            "name": model.name,
            "type": "base" if model.model_type == "base" else "fine-tuned",
            "size": words.parameters(model.parameters_count),
            "simulated": model.simulated,
            "created": model.created_at,
        }
        for model in models
    ]
    columns = {
        "name": "Name",
        "type": "Kind",
        "size": "Parameters",
        "simulated": "Simulated",
        "created": tables.moment_column("Created"),
    }
    tables.show(rows, key="models", columns=columns, file_name="models")
