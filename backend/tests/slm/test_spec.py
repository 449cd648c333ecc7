"""What a run is asked to do: defaults with their reasons, bounds, and the form on disk."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from slm.bundled import BUNDLED, SMOLLM2
from slm.spec import (
    CAUSAL,
    ENCODER,
    METHOD_FACTS,
    Adapter,
    DatasetKind,
    DatasetRef,
    FileFormat,
    FolderSource,
    Hyperparameters,
    Method,
    ModelRef,
    PullSpec,
    SimulationSpec,
    TrainSpec,
    load_spec,
    parse_spec,
    resolve,
    steps_per_epoch,
    total_steps,
    usual_rates,
)

PACKAGE = Path(__file__).resolve().parents[2] / "slm"
PULL = PullSpec(run_id="r", attempt=1, model_id="m", name="n", source=FolderSource(folder="f"), destination="/d")


def training(**config: object) -> TrainSpec:
    rows = DatasetRef(
        dataset_id="d",
        name="d",
        path="../d.csv",
        file_format=FileFormat.CSV,
        sha256="0" * 64,
        row_count=5,
        kind=DatasetKind.TEXT,
    )
    hyperparameters, _ = resolve(config)
    return TrainSpec(
        run_id="r",
        experiment_id="e",
        attempt=2,
        model=ModelRef(model_id="m", name="m", path="/m", adapters=("/a",)),
        train=rows,
        config=hyperparameters,
    )


def test_every_default_that_is_taken_has_a_reason() -> None:
    config, reasons = resolve({})
    assert config.learning_rate == METHOD_FACTS[Method.SFT].rates[Adapter.LORA][1]
    assert set(reasons) <= set(Hyperparameters.model_fields)
    required = {name for name, field in Hyperparameters.model_fields.items() if field.is_required()}
    assert required | {"early_stopping_patience", "packing"} == set(reasons)


def test_what_is_asked_wins_and_has_no_reason() -> None:
    config, reasons = resolve({"learning_rate": 0.001, "epochs": 10, "batch_size": 32, "adapter": None})
    assert (config.learning_rate, config.epochs, config.batch_size) == (0.001, 10, 32)
    assert not {"learning_rate", "epochs", "batch_size"} & set(reasons)
    assert "adapter" in reasons


def test_null_is_left_out_but_where_it_says_something() -> None:
    """No patience at all is a choice; no learning rate is none."""
    left_out, reasons = resolve({})
    assert (left_out.early_stopping_patience, "early_stopping_patience" in reasons) == (3, True)
    config, reasons = resolve({"early_stopping_patience": None, "learning_rate": None, "method": None})
    assert (config.early_stopping_patience, "early_stopping_patience" in reasons) == (None, False)
    assert config.learning_rate == left_out.learning_rate
    again, reasons = resolve(json.loads(config.model_dump_json()))
    assert again == config, "what was resolved once means the same again"
    assert reasons == {}


def test_a_new_model_is_pretrained_in_full_where_nothing_else_is_said() -> None:
    config, reasons = resolve({"from_scratch": True}, kind=DatasetKind.TEXT, base=CAUSAL)
    assert (config.method, config.adapter) == (Method.PRETRAIN, Adapter.FULL)
    assert {"method", "adapter"} <= reasons.keys()
    assert config.learning_rate == usual_rates(config)[1] > resolve({"adapter": "full"})[0].learning_rate
    for said in ({"method": "sft"}, {"adapter": "lora"}):
        with pytest.raises(ValidationError, match="method pretrain with adapter full"):
            resolve({"from_scratch": True, **said})


@pytest.mark.parametrize(
    ("per_epoch", "epochs", "most", "steps"),
    [(7, 1.5, None, 11), (7, 3, None, 21), (10, 0.1, None, 1), (10, 0.01, None, 1), (3, 1 / 3, None, 1), (9, 9, 4, 4)],
)
def test_a_broken_epoch_is_rounded_up(per_epoch: int, epochs: float, most: int | None, steps: int) -> None:
    assert total_steps(per_epoch, epochs, most) == steps


@pytest.mark.parametrize("adapter", Adapter)
@pytest.mark.parametrize("method", Method)
def test_the_learning_rate_suits_what_learns(method: Method, adapter: Adapter) -> None:
    config, _ = resolve({"method": method.value, "adapter": adapter.value})
    low, usual, high = METHOD_FACTS[method].rates[adapter]
    assert low < usual < high
    assert config.learning_rate == usual


def test_alpha_follows_the_rank() -> None:
    assert resolve({"lora_r": 4})[0].lora_alpha == 8
    assert resolve({"lora_r": 4, "lora_alpha": 1})[0].lora_alpha == 1
    for written in (8, 8.0, "8"):
        assert (resolve({"lora_r": written})[0].lora_r, resolve({"lora_r": written})[0].lora_alpha) == (8, 16)


def test_what_has_no_effect_says_so() -> None:
    """Where all parameters learn there is no rank to give a reason for."""
    for adapter, without in (("full", True), ("lora", False), ("qlora", False)):
        _, reasons = resolve({"adapter": adapter})
        said = {reasons[name] for name in ("lora_r", "lora_alpha", "lora_dropout")}
        assert (said == {"without effect where all parameters learn"}) is without
        assert ("adapters" in reasons["weight_decay"]) is not without


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0},
        {"learning_rate": 2},
        {"epochs": -1},
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"max_length": 4},
        {"seed": 2**31},
        {"eval_fraction": 0.6},
        {"lr_scheduler_type": "zigzag"},
        {"lora_r": "many"},
        {"epoch": 3},
    ],
)
def test_what_makes_no_sense_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        resolve(wrong)
    assert caught.value.errors()[0]["loc"] == tuple(wrong)


def test_a_method_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="'osmosis'"):
        resolve({"method": "osmosis"})


@pytest.mark.parametrize("spec", [PULL, training(), training(adapter="full", max_steps=3)])
def test_a_spec_reads_back_as_it_was_written(tmp_path: Path, spec: PullSpec | TrainSpec) -> None:
    (tmp_path / "run.json").write_text(spec.model_dump_json())
    assert load_spec(tmp_path) == spec
    assert parse_spec(json.loads(spec.model_dump_json())) == spec


def test_a_simulation_reads_back_and_can_be_a_key() -> None:
    config, _ = resolve({})
    spec = SimulationSpec(
        run_id="r", experiment_id="e", attempt=1, config=config, rows=9, delay_seconds=0, duration_seconds=1,
        failure_rate=0.1, seed=7,
    )  # fmt: skip
    again = parse_spec(json.loads(spec.model_dump_json()))
    assert again == spec
    assert hash(again) == hash(spec)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"task": "dance"},
        {**PULL.model_dump(), "version": 2},
        {**PULL.model_dump(), "extra": 1},
        {**PULL.model_dump(), "attempt": 0},
        {**PULL.model_dump(), "source": {"kind": "torrent"}},
    ],
)
def test_a_document_of_another_make_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        parse_spec(document)


def test_a_spec_cannot_be_changed_after_it_was_made() -> None:
    with pytest.raises(ValidationError):
        PULL.name = "other"  # type: ignore[misc]


@given(examples=st.integers(0, 10**7), batch=st.integers(1, 4096))
def test_every_example_is_in_one_step(examples: int, batch: int) -> None:
    steps = steps_per_epoch(examples, batch)
    assert steps * batch >= examples
    assert (steps - 1) * batch < max(examples, 1)


def test_every_method_says_which_data_it_learns_from() -> None:
    assert set(METHOD_FACTS) == set(Method)
    assert all(facts.kinds and facts.bases and set(facts.rates) == set(Adapter) for facts in METHOD_FACTS.values())
    assert {kind for facts in METHOD_FACTS.values() for kind in facts.kinds} == set(DatasetKind)


@pytest.mark.parametrize("kind", [None, *DatasetKind])
@pytest.mark.parametrize("base", [CAUSAL, ENCODER])
def test_the_data_decide_the_method_where_none_is_given(kind: DatasetKind | None, base: str) -> None:
    config, reasons = resolve({}, kind=kind, base=base)
    expected = {DatasetKind.CLASSIFICATION: Method.CLASSIFY, DatasetKind.PREFERENCE: Method.DPO}.get(kind, Method.SFT)
    if kind is DatasetKind.TEXT and base == ENCODER:
        expected = Method.MASK
    assert config.method is expected
    assert reasons["method"]
    assert kind is None or kind in METHOD_FACTS[config.method].kinds
    assert resolve({"method": "pretrain"}, kind=kind, base=base)[0].method is Method.PRETRAIN


def test_every_hyperparameter_is_documented() -> None:
    properties = Hyperparameters.model_json_schema()["properties"]
    assert properties.keys() == Hyperparameters.model_fields.keys()
    assert [name for name, field in properties.items() if not field.get("description")] == []


def test_bundled_weights_are_pinned() -> None:
    source = BUNDLED[SMOLLM2]
    assert len(source.sha256) == 64
    assert source.download_bytes > 10**7
    assert "De-quantised" in source.note


@pytest.mark.parametrize(
    "module",
    [
        "terms",
        "hyperparameters",
        "spec",
        "errors",
        "files",
        "events",
        "warm_client",
        "bundled",
        "limits",
        "shape",
        "plan",
    ],
)
def test_what_the_platform_imports_needs_no_tensor(module: str) -> None:
    """Only small packages and the standard library: the API starts in about a second."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    heavy = {"torch", "transformers", "peft", "numpy", "huggingface_hub", "safetensors"}
    assert not heavy & {name.split(".")[0] for name in named}
