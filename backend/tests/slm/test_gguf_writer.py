"""GGUF files: names, shapes and numbers as llama.cpp has them; what is not verified is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
from tiny_models import tiny_model, tiny_tokenizer
from tokenizers import Regex, pre_tokenizers

from slm import gguf_writer
from slm.errors import RunFailure


def nothing(_done: int, _total: int) -> None:
    return None


def written(path: Path, model: Any, precision: gguf_writer.Precision = "f16") -> gguf.GGUFReader:
    file = path / "m.gguf"
    gguf_writer.write(file, model, tiny_tokenizer(), precision=precision, name="M", adds_start=False, beat=nothing)
    return gguf.GGUFReader(file)


def value(reader: gguf.GGUFReader, key: str) -> Any:
    return reader.fields[key].contents()


def test_what_the_file_says_of_itself(tmp_path: Path) -> None:
    reader = written(tmp_path, tiny_model("llama"))
    said = {
        "general.architecture": "llama", "general.file_type": 1, "llama.block_count": 2, "llama.embedding_length": 32,
        "llama.feed_forward_length": 64, "llama.attention.head_count": 2, "llama.attention.head_count_kv": 1,
        "llama.context_length": 256, "llama.rope.dimension_count": 16, "llama.vocab_size": 512,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.add_bos_token": False,
    }  # fmt: skip
    assert {key: value(reader, key) for key in said} == said
    tokenizer = tiny_tokenizer()
    assert value(reader, "tokenizer.ggml.eos_token_id") == tokenizer.eos_token_id
    assert value(reader, "tokenizer.chat_template") == tokenizer.chat_template


def test_every_token_and_its_type(tmp_path: Path) -> None:
    reader = written(tmp_path, tiny_model("llama"))
    tokens, types = value(reader, "tokenizer.ggml.tokens"), value(reader, "tokenizer.ggml.token_type")
    known = tiny_tokenizer().get_vocab()
    assert len(tokens) == len(types) == 512
    assert all(tokens[index] == text for text, index in known.items())
    assert {types[known[text]] for text in ("<|im_start|>", "<|im_end|>", "<|endoftext|>")} == {3}
    assert types[known["a"]] == 1
    assert (tokens[-1], types[-1]) == ("[PAD511]", 5)


@pytest.mark.parametrize("precision", ["f16", "q8_0"])
def test_the_numbers_are_the_models(tmp_path: Path, precision: gguf_writer.Precision) -> None:
    model = tiny_model("llama")
    tensors = {tensor.name: tensor for tensor in written(tmp_path, model, precision).tensors}
    state = model.state_dict()
    assert "output.weight" not in tensors  # tied to the embeddings
    assert len(tensors) == len(state) - 1
    down = tensors["blk.1.ffn_down.weight"]
    assert down.tensor_type.name == ("F16" if precision == "f16" else "Q8_0")
    wanted = state["model.layers.1.mlp.down_proj.weight"].numpy()
    found = gguf.quants.dequantize(down.data, down.tensor_type)
    assert numpy.abs(found - wanted).max() <= (1e-4 if precision == "f16" else numpy.abs(wanted).max() / 127)
    norm = tensors["blk.0.attn_norm.weight"]
    assert norm.tensor_type.name == "F32"


def test_queries_are_laid_out_as_neighbours(tmp_path: Path) -> None:
    """transformers rotates number i with number i + 8 of 16; llama.cpp number 2 i with number 2 i + 1."""
    model = tiny_model("llama")
    wanted = model.state_dict()["model.layers.0.self_attn.q_proj.weight"].numpy().astype(numpy.float16)
    found = next(t for t in written(tmp_path, model).tensors if t.name == "blk.0.attn_q.weight").data
    for head in (0, 16):
        assert numpy.array_equal(found[head : head + 16 : 2], wanted[head : head + 8])
        assert numpy.array_equal(found[head + 1 : head + 16 : 2], wanted[head + 8 : head + 16])


def test_an_output_layer_of_its_own_is_written(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=False)  # fmt: skip
    kinds = {t.name: t.tensor_type.name for t in written(tmp_path, LlamaForCausalLM(config), "q8_0").tensors}
    assert kinds["output.weight"] == "Q8_0"
    assert kinds["blk.0.ffn_down.weight"] == "F16"  # rows of 48 are no whole blocks of 32


def splitting(*steps: Any) -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(list(steps))
    return tokenizer


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
RAW = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


@pytest.mark.parametrize(
    ("tokenizer", "name"),
    [
        (splitting(BYTES), "gpt-2"),
        (splitting(pre_tokenizers.Digits(individual_digits=True), BYTES), "smollm"),
        (splitting(pre_tokenizers.Split(Regex(gguf_writer._LLAMA3), "isolated"), RAW), "llama-bpe"),
        (splitting(pre_tokenizers.Split(Regex(gguf_writer._QWEN2), "isolated"), RAW), "qwen2"),
    ],
)
def test_how_text_is_cut_is_told_by_the_tokenizer_itself(tokenizer: Any, name: str) -> None:
    """Not by the family's name: one that was read from a GGUF file may cut otherwise than the original."""
    assert gguf_writer.vocabulary(tokenizer, 512).splitter == name


@pytest.mark.parametrize(
    "tokenizer",
    [
        splitting(pre_tokenizers.Whitespace()),
        splitting(pre_tokenizers.ByteLevel(add_prefix_space=True)),
        splitting(pre_tokenizers.Split(Regex(r"\d"), "isolated"), RAW),
    ],
)
def test_other_ways_to_cut_text_are_refused(tokenizer: Any) -> None:
    with pytest.raises(RunFailure, match="no verified counterpart in llama") as caught:
        gguf_writer.vocabulary(tokenizer, 512)
    assert caught.value.reason.code == "model_unsupported"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "positions are scaled"),
        ({"attention_bias": True}, "have biases"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "this one is LlamaForSequenceClassification"),
        ({"model_type": "gpt2", "architectures": None}, "this one is gpt2"),
    ],
)
def test_what_is_not_verified_is_refused(change: dict[str, Any], why: str) -> None:
    config = tiny_model("llama").config
    assert gguf_writer.refusal(config) is None
    for key, changed in change.items():
        if key == "model_type":
            config.__class__ = type("Config", (config.__class__,), {"model_type": changed})
        else:
            setattr(config, key, changed)
    found = gguf_writer.refusal(config)
    assert found is not None
    assert why in found
