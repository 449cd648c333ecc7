"""The bundled example, trained for real with one click: through the API, as any client would do it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from slm_client import Client, Dataset, ExperimentDetail, ModelDetail

from components import weights
from settings import HERE

NAME = "Support tickets to JSON"
_FOLDER = HERE.parent / "examples"
FILES = {"training": _FOLDER / "tickets-train.csv", "evaluation": _FOLDER / "tickets-eval.csv"}
CONFIG: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "max_length": 256,
    "generate_max_rows": 64,
}
"""What the demo trains with: some minutes on two cores."""


def available() -> bool:
    """Whether the example's files are beside the workbench."""
    return all(path.is_file() for path in FILES.values())


def base(client: Client) -> ModelDetail | None:
    """The model it starts from: the bundled one, or else a language model whose weights are here already."""
    models = [model for model in weights.bases(client) if (model.metadata or {}).get("task") != "encoder"]
    bundled = next((model for model in models if model.name == weights.BUNDLED), None)
    if bundled is not None and bundled.weights == "present":
        return bundled
    return next((model for model in models if model.weights == "present"), bundled)


def start(client: Client, model: ModelDetail) -> ExperimentDetail:
    """Upload what is not there yet and ask for the training. Raises what the service refuses."""
    training = _uploaded(client, "Support tickets", "training")
    held_out = _uploaded(client, "Support tickets, held out", "evaluation")
    return client.experiments.create(
        NAME,
        base_model_id=model.id,
        training_dataset_id=training.id,
        eval_dataset_id=held_out.id,
        training_config=CONFIG,
        executor="local",
        description="The bundled example: a short e-mail in, one line of JSON out.",
    )


def _uploaded(client: Client, name: str, purpose: str) -> Dataset:
    path: Path = FILES[purpose]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for known in client.datasets.list(dataset_type=purpose, q=name):
        detail = client.datasets.get(known.id)
        if detail.sha256 == digest:
            return detail
    return client.datasets.upload(path, name=name, dataset_type=purpose)
