"""Preview, plan and train ask alike, name everything there is to choose, and send what was chosen and nothing else."""

from __future__ import annotations

from typing import Any

import click
import pytest
import typer

from app.cli.commands import app
from app.cli.shell import Stop
from app.cli.training import Wanted
from slm.spec import Adapter, Hyperparameters, Method


def options(command: str) -> dict[str, Any]:
    tree = typer.main.get_command(app)
    found = tree.get_command(click.Context(tree), command)  # type: ignore[attr-defined]
    return {parameter.name: parameter for parameter in found.params}


def test_plan_and_train_ask_the_same_way() -> None:
    plan, train = options("plan"), options("train")
    own = {"measure", "name", "no_watch"}
    assert plan.keys() - own == train.keys() - own
    for name in plan.keys() - own:
        assert (plan[name].opts, plan[name].help) == (train[name].opts, train[name].help), name


def test_preview_means_the_same_by_model_method_and_length() -> None:
    preview, train = options("preview"), options("train")
    for name in ("model", "method", "max_length"):
        assert (preview[name].opts, preview[name].help) == (train[name].opts, train[name].help), name


def test_every_adapter_and_method_is_named() -> None:
    train = options("train")
    assert all(adapter.value in train["adapter"].help for adapter in Adapter)
    assert all(method.value in train["method"].help for method in Method)


def test_options_of_hyperparameters_are_called_like_them() -> None:
    asked = {"method", "adapter", "learning_rate", "epochs", "batch_size", "max_steps", "max_length"}
    assert asked <= Hyperparameters.model_fields.keys()
    assert asked <= options("train").keys()


def test_only_what_was_given_is_sent() -> None:
    wanted = Wanted.of("rows", None, None, None, ["seed=7", "lr_scheduler_type=linear"], epochs=2.0, adapter=None)
    assert wanted.config == {"epochs": 2.0, "seed": 7, "lr_scheduler_type": "linear"}
    assert Wanted.of("rows", None, None, None, None).config == {}
    with pytest.raises(Stop, match="name=value"):
        Wanted.of("rows", None, None, None, ["seed"])
