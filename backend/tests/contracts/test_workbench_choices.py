"""The workbench offers what the library can do: its table of methods is the library's, in people's words."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from slm.spec import METHOD_FACTS, Adapter, Hyperparameters, Method, default_method
from slm.terms import DatasetKind

COMPONENTS = Path(__file__).resolve().parents[3] / "work" / "components"


def load(name: str) -> ModuleType:
    """A module of the workbench by its file: the workbench is run from its own folder and not installed."""
    spec = importlib.util.spec_from_file_location(f"workbench_{name}", COMPONENTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def methods() -> ModuleType:
    return load("methods")


def test_the_table_is_the_librarys(methods: ModuleType) -> None:
    assert set(methods.METHODS) == {method.value for method in Method}
    assert set(methods.KINDS) == {kind.value for kind in DatasetKind}
    assert set(methods.ADAPTERS) == {adapter.value for adapter in Adapter}
    for method, facts in METHOD_FACTS.items():
        shown = methods.METHODS[method.value]
        assert shown.kinds == {kind.value for kind in facts.kinds}, method
        assert shown.bases == facts.bases, method
        assert shown.adapter == facts.adapter, method


@pytest.mark.parametrize("kind", [*DatasetKind])
@pytest.mark.parametrize("base", ["causal", "encoder"])
def test_the_first_offer_is_the_librarys_own_default(methods: ModuleType, kind: DatasetKind, base: str) -> None:
    """Wherever the library's default fits at all."""
    offered = methods.choices(kind.value, base, known=[method.value for method in Method])[0]
    usual, _ = default_method(kind, base)
    if base in METHOD_FACTS[usual].bases and kind in METHOD_FACTS[usual].kinds:
        assert (offered.name, offered.fits) == (usual.value, True)


def test_presets_and_groups_name_settings_that_there_are() -> None:
    form = load("settings_form")
    known = set(Hyperparameters.model_fields)
    assert {name for names in form.GROUPS.values() for name in names} <= known
    assert {name for preset in form.PRESETS.values() for name in preset} <= known
    unplaced = known - {name for names in form.GROUPS.values() for name in names} - form.CHOSEN_ELSEWHERE
    assert not unplaced, "settings without a place in the workbench's form"
