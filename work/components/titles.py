"""Names in place of ids: of the models and datasets that runs refer to."""

from __future__ import annotations

from collections.abc import Callable

from slm_client import Client, Dataset, ExperimentDetail, Model, NotFound

GONE = "deleted"


def known(client: Client) -> dict[str, str]:
    """Of every model and dataset, by id."""
    models = {model.id: model.name for model in client.models.list()}
    return models | {dataset.id: dataset.name for dataset in client.datasets.list()}


def of(client: Client, *experiments: ExperimentDetail) -> dict[str, str]:
    """Of those that a few experiments refer to, each asked for once."""
    models = {one for each in experiments for one in (each.base_model_id, each.resulting_model_id) if one}
    datasets = {one for each in experiments for one in (each.training_dataset_id, each.eval_dataset_id) if one}
    names = {identity: _or_gone(client.models.get, identity) for identity in models}
    return names | {identity: _or_gone(client.datasets.get, identity) for identity in datasets}


def _or_gone(get: Callable[[str], Model | Dataset], identity: str) -> str:
    try:
        return get(identity).name
    except NotFound:
        return GONE
