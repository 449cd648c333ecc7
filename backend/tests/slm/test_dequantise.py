"""GGUF becomes safetensors that load, learn and stop where they should; a file that is no model is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tiny_models import tiny_tokenizer

from slm import dequantise as module
from slm.dequantise import dequantise
from slm.errors import RunFailure
from slm.events import EventLog, Stop, iter_events
from slm.spec import FolderSource, PullSpec
from slm.weights import run_pull

HIDDEN, LAYERS, HEADS = 64, 2, 2
QUANTISED = gguf.GGMLQuantizationType.Q4_1


def write_gguf(path: Path, *, architecture: str = "llama", pad: int = 2) -> dict[str, np.ndarray[Any, Any]]:
    """A random two-layer Llama in four-bit weights with the tiny tokenizer; returns its tensors as they read back."""
    vocabulary = json.loads(tiny_tokenizer().backend_tokenizer.to_str())["model"]
    tokens = sorted(vocabulary["vocab"], key=vocabulary["vocab"].__getitem__)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(2 * HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if n < 3 else gguf.TokenType.NORMAL for n in range(len(tokens))])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in vocabulary["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(pad)
    dice = np.random.default_rng(0)
    read_back = {}
    for name, shape in _tensors(len(tokens)).items():
        values = dice.normal(0, 0.05, shape).astype(np.float32)
        if len(shape) == 2:
            packed = gguf.quants.quantize(values, QUANTISED)
            writer.add_tensor(name, packed, raw_dtype=QUANTISED)
            read_back[name] = gguf.quants.dequantize(packed, QUANTISED)
        else:
            writer.add_tensor(name, values)
            read_back[name] = values
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_back


def _tensors(vocabulary: int) -> dict[str, tuple[int, ...]]:
    wide = 2 * HIDDEN
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocabulary, HIDDEN), "output_norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        for name, shape in {
            "attn_norm": (HIDDEN,),
            "attn_q": (HIDDEN, HIDDEN),
            "attn_k": (HIDDEN, HIDDEN),
            "attn_v": (HIDDEN, HIDDEN),
            "attn_output": (HIDDEN, HIDDEN),
            "ffn_norm": (HIDDEN,),
            "ffn_gate": (wide, HIDDEN),
            "ffn_up": (wide, HIDDEN),
            "ffn_down": (HIDDEN, wide),
        }.items():
            found[f"blk.{layer}.{name}.weight"] = shape
    return found


def loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def test_every_weight_has_the_value_that_four_bits_say(tmp_path: Path) -> None:
    expected = write_gguf(tmp_path / "tiny.gguf")
    dequantise(tmp_path / "tiny.gguf", tmp_path)
    model, _ = loaded(tmp_path)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert {tensor.dtype for tensor in state.values()} == {np.dtype("float32")}
    np.testing.assert_array_equal(state["model.embed_tokens.weight"], expected["token_embd.weight"])
    np.testing.assert_array_equal(state["model.norm.weight"], expected["output_norm.weight"])
    np.testing.assert_array_equal(state["model.layers.1.mlp.down_proj.weight"], expected["blk.1.ffn_down.weight"])


def test_the_result_can_learn(tmp_path: Path) -> None:
    import torch

    write_gguf(tmp_path / "tiny.gguf")
    dequantise(tmp_path / "tiny.gguf", tmp_path)
    model, tokenizer = loaded(tmp_path)
    ids = torch.tensor([tokenizer.encode("the answer is red")])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_the_end_token_is_not_the_padding(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", pad=2)
    dequantise(tmp_path / "tiny.gguf", tmp_path)
    model, tokenizer = loaded(tmp_path)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert model.config.pad_token_id == tokenizer.pad_token_id == 0
    assert tokenizer.decode(tokenizer.encode("What is red?")) == "What is red?"


def test_a_padding_that_is_its_own_stays(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", pad=1)
    dequantise(tmp_path / "tiny.gguf", tmp_path)
    assert loaded(tmp_path)[1].pad_token == "<|im_start|>"


@pytest.mark.parametrize("architecture", ["llama", "warp-drive"])
def test_what_is_no_known_model_is_refused(tmp_path: Path, architecture: str) -> None:
    path = tmp_path / "tiny.gguf"
    if architecture == "llama":
        path.write_bytes(b"GGUF" + b"\0" * 60)
    else:
        write_gguf(path, architecture=architecture)
    with pytest.raises(RunFailure, match=r"tiny\.gguf") as caught:
        dequantise(path, tmp_path)
    assert caught.value.reason.code == "model_unsupported"


def test_weights_that_read_back_otherwise_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    real = module._reload

    def damaged(folder: Path) -> Any:
        model = real(folder)
        model.model.norm.weight.data[0] += 1
        return model

    monkeypatch.setattr(module, "_reload", damaged)
    with pytest.raises(RunFailure, match="changed when they were written") as caught:
        dequantise(tmp_path / "tiny.gguf", tmp_path)
    assert caught.value.reason.code == "weights_refused"


@pytest.mark.parametrize("in_place", [True, False])
def test_a_pull_of_a_gguf_keeps_the_persons_file_and_publishes_floats(tmp_path: Path, in_place: bool) -> None:
    mine = tmp_path / "models" / "mine"
    mine.mkdir(parents=True)
    write_gguf(mine / "tiny.gguf")
    (mine / "config.json").write_text('{"mine": true}')
    before = (mine / "tiny.gguf").read_bytes()
    destination = mine if in_place else tmp_path / "models" / "copy"
    source = FolderSource(folder=str(mine))
    spec = PullSpec(run_id="r", attempt=1, model_id="m", name="T", source=source, destination=str(destination))
    log = EventLog(tmp_path, attempt=1)
    run_pull(spec, tmp_path, log, Stop(tmp_path))
    log.close()
    told = list(iter_events(tmp_path / "events.jsonl"))
    assert [event["phase"] for event in told if event["type"] == "phase"] == ["downloading", "converting", "saving"]
    assert [event["code"] for event in told if event["type"] == "warned"] == ["dequantised"]
    assert (mine / "tiny.gguf").read_bytes() == before
    model, _ = loaded(destination)
    assert told[-1]["model"]["parameters_count"] == model.num_parameters()
    assert (destination / "model.safetensors").stat().st_mode & 0o777 == 0o644
    if not in_place:
        assert not (destination / "tiny.gguf").exists()
        assert json.loads((mine / "config.json").read_text()) == {"mine": True}
