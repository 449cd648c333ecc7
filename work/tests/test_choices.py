"""Methods, adapters and settings as they are offered: pure functions over what the service describes."""

from __future__ import annotations

import pytest

from components import methods, settings_form
from components.methods import METHODS
from recorded_settings import SETTINGS

KNOWN = settings_form.fields(SETTINGS)


@pytest.mark.parametrize("kind", [*methods.KINDS, None])
@pytest.mark.parametrize("base", ["causal", "encoder", None])
def test_what_fits_comes_first_and_everything_else_has_a_reason(kind: str | None, base: str | None) -> None:
    found = methods.choices(kind, base, known=[*METHODS])
    assert {choice.name for choice in found} == set(METHODS)
    assert [choice.fits for choice in found] == sorted((choice.fits for choice in found), reverse=True)
    for choice in found:
        assert choice.fits == (
            (kind is None or kind in METHODS[choice.name].kinds)
            and (base is None or base in METHODS[choice.name].bases)
        )
        assert choice.fits or choice.why_not.startswith("it ")


@pytest.mark.parametrize(
    ("kind", "base", "usual"),
    [
        ("messages", "causal", "sft"),
        ("text", "causal", "sft"),
        ("text", "encoder", "mask"),
        ("classification", "encoder", "classify"),
        ("preference", "causal", "dpo"),
        (None, None, "sft"),
    ],
)
def test_the_usual_method_is_at_the_top(kind: str | None, base: str | None, usual: str) -> None:
    assert methods.choices(kind, base, known=[*METHODS])[0].name == usual


def test_only_what_the_service_knows_is_offered() -> None:
    assert [choice.name for choice in methods.choices("text", "causal", known=["sft"])] == ["sft"]
    assert [choice.name for choice in methods.adapters("mask", known=["lora", "full"], gpu=True)] == ["full", "lora"]


def test_fields_come_from_the_description() -> None:
    rate = KNOWN["learning_rate"]
    assert (rate.kind, rate.low, rate.high, rate.label) == ("number", 0, 1, "Learning rate")
    assert KNOWN["seed"].high == 2147483648
    assert KNOWN["method"].options == ("sft", "pretrain", "classify", "mask", "dpo")
    assert settings_form.options(SETTINGS, "adapter") == ("lora", "full", "qlora")
    assert settings_form.options({}, "adapter") == ()
    assert settings_form.options({"method": {"anyOf": [{"const": "sft"}, {"type": "null"}]}}, "method") == ("sft",)
    assert settings_form.described({}) == {}


def test_each_setting_is_asked_for_once_where_it_matters() -> None:
    for method in METHODS:
        for adapter in methods.ADAPTERS:
            names = [
                field.name
                for found in settings_form.grouped(KNOWN, method=method, adapter=adapter).values()
                for field in found
            ]
            assert len(names) == len(set(names))
            assert ("dpo_beta" in names) == (method == "dpo")
            assert ("packing" in names) == (method == "pretrain")
            assert ("lora_r" in names) == (adapter != "full")
            assert not {"method", "adapter", "simulated_failure_rate"} & set(names)
    further = settings_form.grouped(KNOWN, method="sft", adapter="lora")["Further"]
    assert [field.name for field in further] == ["of_tomorrow"]


def test_presets_set_what_the_method_knows() -> None:
    quick = settings_form.preset("quick", method="classify", adapter="full", known=KNOWN)
    assert quick == {"epochs": 1, "max_length": 256, "eval_max_rows": 64}
    assert settings_form.preset("balanced", method="sft", adapter="lora", known=KNOWN) == {}
    assert settings_form.preset("thorough", method="sft", adapter="lora", known=KNOWN)["epochs"] == 5
    assert settings_form.preset("thorough", method="dpo", adapter="full", known=KNOWN) == {
        "epochs": 2,
        "early_stopping_patience": 3,
    }
    assert settings_form.preset("nonsense", method="sft", adapter="lora", known=KNOWN) == {}


def test_what_nobody_chose_is_not_sent() -> None:
    sent = settings_form.config(
        {"epochs": 1}, {"epochs": None, "seed": 0, "packing": False}, method="sft", adapter=None
    )
    assert sent == {"method": "sft", "epochs": 1, "seed": 0, "packing": False}
