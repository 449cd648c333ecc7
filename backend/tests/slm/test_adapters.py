"""Which parameters learn, by architecture and adapter; and what four bits need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import base_folder, encoder_folder, events_of, make_run, make_spec, task_rows, tiny_model, write_rows
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

from slm import adapters, run
from slm.errors import RunFailure
from slm.spec import Adapter, Hyperparameters, ModelRef, resolve

TARGETS = {
    "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "qwen2": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "gpt2": {"c_attn", "c_proj", "c_fc"},
}

BASE = ModelRef(model_id="base", name="Tiny", path="base")


def config(adapter: Adapter, **settings: Any) -> Hyperparameters:
    return resolve({"adapter": adapter.value} | settings)[0]


def learning(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def layers(names: set[str]) -> set[str]:
    return {name.split(".lora_")[0].rsplit(".", 1)[1] for name in names if ".lora_" in name}


@pytest.mark.parametrize("architecture", TARGETS)
def test_lora_goes_to_every_linear_layer_but_the_last(architecture: str) -> None:
    """No warning of PEFT's either: GPT-2 keeps its matrices transposed, the others do not."""
    prepared = adapters.prepare(tiny_model(architecture), config(Adapter.LORA), task_type="CAUSAL_LM")
    names = learning(prepared)
    assert names
    assert all(".lora_" in name for name in names)
    assert layers(names) == TARGETS[architecture]
    assert prepared.peft_config["default"].fan_in_fan_out == (architecture == "gpt2")


@pytest.mark.parametrize("head", ["MaskedLM", "Model"])
def test_a_classifiers_head_is_learned_whole_and_the_rest_of_bert_by_lora(tmp_path: Path, head: str) -> None:
    """A base with a pooler of its own keeps it below LoRA; one without learns it whole."""
    folder = encoder_folder(tmp_path, head=head)
    model, found = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3, output_loading_info=True)
    new = sorted({name.rpartition(".")[0] for name in found["missing_keys"]})
    assert ("bert.pooler.dense" in new) == (head == "MaskedLM")
    names = learning(adapters.prepare(model, config(Adapter.LORA), task_type="SEQ_CLS", new=new))
    assert {"query", "key", "value"} <= layers(names) <= {"query", "key", "value", "dense"}
    assert any("classifier.modules_to_save" in name for name in names)
    assert any("pooler.dense.modules_to_save" in name for name in names) == (head == "MaskedLM")
    assert not any("classifier" in name and "lora" in name for name in names)
    total, trainable = adapters.count_parameters(model)
    plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    assert total == plain.num_parameters()
    assert 0 < trainable < total


def test_the_output_layer_of_an_encoder_stays_tied_to_its_embeddings(tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path, head="Model")
    model, found = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    new = sorted({name.rpartition(".")[0] for name in found["missing_keys"]})
    names = learning(adapters.prepare(model, config(Adapter.LORA), task_type="FEATURE_EXTRACTION", new=new))
    assert any("transform.dense.modules_to_save" in name for name in names)
    assert not any("decoder" in name for name in names)


def test_in_full_everything_learns() -> None:
    model = tiny_model("llama")
    assert learning(adapters.prepare(model, config(Adapter.FULL), task_type="CAUSAL_LM")) == {
        name for name, _ in model.named_parameters()
    }


# -- four bits


def test_qlora_without_cuda_fails_at_once_with_the_remedy(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    data = write_rows(tmp_path / "rows.jsonl", task_rows(16))
    directory = make_run(tmp_path / "run", make_spec(base_folder(tmp_path), data, adapter="qlora"))
    assert run.main(directory) == run.FAILED
    (failed,) = events_of(directory, "failed")
    assert (failed["code"], failed["fault"]) == ("adapter_unavailable", "user")
    assert failed["message"] == "Adapter qlora needs an NVIDIA GPU, which is not here."
    assert "adapter lora" in failed["hint"]


def test_qlora_without_bitsandbytes_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(adapters, "find_spec", lambda _name: None)
    with pytest.raises(RunFailure, match="the package bitsandbytes"):
        adapters.require(config(Adapter.QLORA), BASE)
    adapters.require(config(Adapter.LORA), BASE)


def test_qlora_does_not_start_from_an_adapter() -> None:
    with pytest.raises(RunFailure, match="whole weights only"):
        adapters.require(config(Adapter.QLORA), BASE.model_copy(update={"adapters": ("adapter",)}))


@pytest.mark.parametrize(("bf16", "computes"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_base_in_four_bits_is_asked_for_as_qlora_means_it(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, computes: torch.dtype
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(adapters, "BitsAndBytesConfig", lambda **keywords: asked.update(keywords))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
    assert adapters.quantised(config(Adapter.QLORA))["device_map"] == {"": 0}
    assert (asked["load_in_4bit"], asked["bnb_4bit_quant_type"], asked["bnb_4bit_compute_dtype"]) == (
        True, "nf4", computes,
    )  # fmt: skip
    assert {"lm_head", "score", "classifier"} <= set(asked["llm_int8_skip_modules"])
    assert adapters.quantised(config(Adapter.LORA)) == {}


def test_qlora_learns_what_lora_learns() -> None:
    """The base in full precision stands in for one in four bits, which needs CUDA."""
    one, other = (
        adapters.prepare(tiny_model("llama"), config(adapter), task_type="CAUSAL_LM")
        for adapter in (Adapter.LORA, Adapter.QLORA)
    )
    assert learning(one) == learning(other)


@pytest.mark.gpu
def test_qlora_trains_on_a_gpu(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA")
    data = write_rows(tmp_path / "rows.jsonl", task_rows(32))
    directory = make_run(tmp_path / "run", make_spec(base_folder(tmp_path, hidden=64), data, adapter="qlora", epochs=2))
    assert run.main(directory) == run.FINISHED
    steps = [event["loss"] for event in events_of(directory, "step")]
    assert steps[-1] < steps[0]
