"""Write a Llama-family model with a byte-level BPE tokenizer as one GGUF file, which llama.cpp and its kin load.

What is not known to come out right is refused before anything is written: other architectures, scaled rotary
positions, biases, and text splitters that have no name in llama.cpp. Its names and layouts are those of llama.cpp's
own converter: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and convert_hf_to_gguf.py there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy
import torch

from slm.errors import RunFailure
from slm.files import Beat

Precision = Literal["f16", "q8_0"]
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_SPLITTERS: dict[str, tuple[dict[str, Any], ...]] = {
    "gpt-2": ({"type": "ByteLevel", "use_regex": True},),
    "smollm": ({"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "use_regex": True}),
    "llama-bpe": ({"type": "Split", "pattern": {"Regex": _LLAMA3}}, {"type": "ByteLevel", "use_regex": False}),
    "qwen2": ({"type": "Split", "pattern": {"Regex": _QWEN2}}, {"type": "ByteLevel", "use_regex": False}),
}
"""llama.cpp's name of a way to cut text before its bytes are merged → the same way in `tokenizer.json`."""
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
_BLOCK = 32
"""Numbers in a Q8_0 block, which share a scale; rows that are no multiple of it stay F16."""


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level BPE as GGUF stores it."""

    splitter: str
    tokens: list[str]
    types: list[int]
    merges: list[str]


def refusal(config: Any) -> str | None:
    """Why a model of this configuration cannot be written, or None."""
    names = [str(name) for name in getattr(config, "architectures", None) or []]
    if config.model_type != "llama" or (names and names != ["LlamaForCausalLM"]):
        shown = names[0] if names else str(config.model_type)
        return f"GGUF is written for Llama models only; this one is {shown}. Export it as safetensors."
    scaling = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if scaling != "default":
        return (
            f"Its rotary positions are scaled ('{scaling}'), which is not verified for GGUF. Export it as safetensors."
        )
    if config.attention_bias or config.mlp_bias:
        return "Its layers have biases, which is not verified for GGUF. Export it as safetensors."
    return None


def vocabulary(tokenizer: Any, size: int) -> Vocabulary:
    """The tokenizer's content, filled up to `size` tokens. Raises `RunFailure` where it is of another kind."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {}
    model = content.get("model") or {}
    steps = content.get("pre_tokenizer") or {}
    cutting = steps.get("pretokenizers", [steps])
    splitter = next((name for name, known in _SPLITTERS.items() if _same_steps(cutting, known)), None)
    if model.get("type") != "BPE" or content.get("normalizer") is not None or splitter is None:
        kinds = " + ".join(str(step.get("type")) for step in cutting)
        raise RunFailure(
            "model_unsupported",
            f"Its tokenizer ({model.get('type')} over {kinds}) has no verified counterpart in llama.cpp; "
            "the exported model would read other tokens. Export it as safetensors.",
        )
    added = {entry["id"]: entry for entry in content.get("added_tokens", [])}
    tokens, types = [f"[PAD{index}]" for index in range(size)], [_UNUSED] * size
    for token, index in model["vocab"].items():
        tokens[index], types[index] = token, _NORMAL
    for index, entry in added.items():
        tokens[index], types[index] = entry["content"], _CONTROL if entry["special"] else _USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return Vocabulary(splitter, tokens, types, merges)


def _same_steps(steps: Sequence[Mapping[str, Any]], known: Sequence[Mapping[str, Any]]) -> bool:
    return len(steps) == len(known) and all(
        not step.get("add_prefix_space") and all(step.get(key) == value for key, value in wanted.items())
        for step, wanted in zip(steps, known, strict=True)
    )


def write(
    path: Path, model: Any, tokenizer: Any, *, precision: Precision, name: str, adds_start: bool, beat: Beat
) -> None:
    """Write the model. `adds_start` says that the tokenizer puts its begin-of-text token before every text.

    Raises `RunFailure` (model_unsupported); `beat(done, total)` counts tensors.
    """
    if (why := refusal(model.config)) is not None:
        raise RunFailure("model_unsupported", why)
    words = vocabulary(tokenizer, model.config.vocab_size)
    writer = gguf.GGUFWriter(path, "llama")
    try:
        _describe(writer, model.config, precision, name)
        _add_vocabulary(writer, tokenizer, words, adds_start)
        _write_tensors(writer, list(_tensors(model)), precision, beat)
    finally:
        writer.close()


def _write_tensors(
    writer: gguf.GGUFWriter, tensors: list[tuple[str, torch.Tensor]], precision: Precision, beat: Beat
) -> None:
    """All headers, then one tensor after the other, so that only one is held in its new form."""
    for known, tensor in tensors:
        kind = _kind(tensor, precision)
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        size = tensor.numel() // block * block_bytes
        writer.add_tensor_info(known, tensor.shape, numpy.dtype(numpy.float32), size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for done, (_, tensor) in enumerate(tensors):
        beat(done, len(tensors))
        values = tensor.detach().to(torch.float32).cpu().numpy()
        writer.write_tensor_data(gguf.quants.quantize(values, _kind(tensor, precision)))


def _describe(writer: gguf.GGUFWriter, config: Any, precision: Precision, name: str) -> None:
    heads, head_size = config.num_attention_heads, config.head_dim or config.hidden_size // config.num_attention_heads
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if precision == "f16" else gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Any, words: Vocabulary, adds_start: bool) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words.splitter)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    writer.add_token_merges(words.merges)
    for role, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("unk", writer.add_unk_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        token = getattr(tokenizer, f"{role}_token_id")
        if token is not None:
            add(token)
    writer.add_add_bos_token(adds_start)
    writer.add_add_space_prefix(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and values as llama.cpp has them, in the model's order."""
    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads if name.endswith("q_proj.weight") else config.num_key_value_heads
            tensor = _interleaved(tensor, heads)
        known = names.get_name(name, try_suffixes=(".weight",))
        if known is None:
            raise RunFailure("model_unsupported", f"The tensor {name} has no name in llama.cpp.")
        yield known, tensor


def _interleaved(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a query or key projection in llama.cpp's order: it rotates neighbours, transformers rotates halves."""
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def _kind(tensor: torch.Tensor, precision: Precision) -> gguf.GGMLQuantizationType:
    if tensor.ndim == 1:
        return gguf.GGMLQuantizationType.F32
    whole_blocks = tensor.shape[-1] % _BLOCK == 0
    return gguf.GGMLQuantizationType.Q8_0 if precision == "q8_0" and whole_blocks else gguf.GGMLQuantizationType.F16
