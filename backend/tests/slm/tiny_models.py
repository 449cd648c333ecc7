"""Tiny random models of real architectures with a real byte-level BPE tokenizer, and runs made of them.

`base_folder` makes weights as a pull leaves them; `make_run` a run directory that `slm.run` accepts.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from slm.events import iter_events
from slm.spec import WEIGHTS_MARKER, DatasetKind, DatasetRef, FileFormat, Method, ModelRef, TrainSpec, resolve

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = ("red", "green", "blue", "cat", "dog", "bird", "one", "two", "three", "colour", "animal", "number")
CORPUS = [f"What is the {kind} of {word}? The answer is {word}." for kind in WORDS for word in WORDS]
ANIMALS = ("cat", "dog", "bird")
FILLERS = ("the", "a", "some", "my", "your", "old", "big", "this")
ARCHITECTURES = ("llama", "gpt2", "qwen2")


@cache
def _trained_bpe() -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return str(tokenizer.to_str())


def tiny_tokenizer(*, chat: bool = True, pad: str | None = "<|im_end|>") -> Any:
    """With `chat`, SmolLM2's trap is set: the padding token is the very stop token that is to be learned."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained_bpe()),
        eos_token="<|im_end|>" if chat else "<|endoftext|>",
        pad_token=pad if chat else None,
        additional_special_tokens=["<|im_start|>"],
    )
    if chat:
        tokenizer.chat_template = CHATML
    return tokenizer


def tiny_model(architecture: str, *, hidden: int = 32, layers: int = 2, seed: int = 0) -> Any:
    """A random causal model with `hidden` units, 2 heads and the tiny tokenizer's vocabulary."""
    import torch
    import transformers

    vocabulary, special = 512, {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    modern = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 256,
        "tie_word_embeddings": architecture == "llama",
    }
    old = {"vocab_size": vocabulary, "n_embd": hidden, "n_layer": layers, "n_head": 2, "n_positions": 256}
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    if architecture == "gpt2":
        config = transformers.GPT2Config(**old, **no_dropout, **special)
    else:
        config = transformers.AutoConfig.for_model(architecture, **modern, **special)
    torch.manual_seed(seed)
    return transformers.AutoModelForCausalLM.from_config(config)


def base_folder(parent: Path, architecture: str = "llama", **sizes: int) -> Path:
    """A folder of weights as `slm.weights` publishes them."""
    folder = parent / f"tiny-{architecture}"
    model = tiny_model(architecture, **sizes)
    model.save_pretrained(folder)
    tiny_tokenizer(chat=architecture != "gpt2").save_pretrained(folder)
    marker = {"sha256": "0" * 64, "parameters_count": model.num_parameters()}
    (folder / WEIGHTS_MARKER).write_text(json.dumps(marker))
    return folder


def encoder_tokenizer() -> Any:
    """Words and punctuation as BERT marks them: [CLS] … [SEP]."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate([*special, "?", ".", *WORDS, *FILLERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip


def encoder_folder(parent: Path, *, hidden: int = 32, layers: int = 2, seed: int = 0, head: str = "MaskedLM") -> Path:
    """A random BERT as a pull leaves it: with its head for masked words, or (`head` "Model") without any."""
    import torch
    import transformers

    folder = parent / "tiny-bert"
    tokenizer = encoder_tokenizer()
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=2, max_position_embeddings=64, pad_token_id=0,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = (transformers.BertForMaskedLM if head == "MaskedLM" else transformers.BertModel)(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / WEIGHTS_MARKER).write_text(json.dumps({"sha256": "0" * 64}))
    return folder


@cache
def _all_label_rows() -> list[tuple[str, str]]:
    pairs = [(first, second) for first in ANIMALS for second in ANIMALS if first != second]
    rows = [(f"{a} {first} {b} {second}", first) for first, second in pairs for a in FILLERS for b in FILLERS]
    random.Random(0).shuffle(rows)
    return rows


def label_rows(count: int, *, start: int = 0) -> list[dict[str, str]]:
    """What no bag of words can tell: the label is the animal named first. There are 384 different rows."""
    return [{"text": text, "label": label} for text, label in _all_label_rows()[start : start + count]]


def task_rows(count: int, *, turned: int = 0) -> list[dict[str, str]]:
    """A task that a tiny model learns: name the colour's fixed animal, or the one that is `turned` places on."""
    names, animals = ("red", "green", "blue", "one", "three"), ("cat", "dog", "bird", "two", "number")
    return [
        {
            "prompt": f"{names[n % 5]} {WORDS[(n // 5) % 12]} {WORDS[(n // 60) % 12]}?",
            "completion": animals[(n + turned) % 5],
        }
        for n in range(count)
    ]


def taught_folder(parent: Path, architecture: str) -> Path:
    """A base that knows another task already: LoRA turns what a model can do, it cannot teach noise to speak."""
    from slm import run

    data = write_rows(parent / f"{architecture}.jsonl", task_rows(160, turned=1))
    config = {"adapter": "full", "learning_rate": 5e-3, "epochs": 8, "eval_fraction": 0.0}
    directory = make_run(parent / architecture, make_spec(base_folder(parent, architecture, hidden=64), data, **config))
    assert run.main(directory) == run.FINISHED
    folder = directory / "artifacts" / "model"
    (folder / WEIGHTS_MARKER).write_text(json.dumps({"sha256": "0" * 64}))
    return folder


def write_rows(path: Path, rows: list[dict[str, Any]], kind: DatasetKind = DatasetKind.PROMPT_COMPLETION) -> DatasetRef:
    """A JSONL file and the reference by which a run reads it."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return DatasetRef(
        dataset_id=path.stem,
        name=path.stem,
        path=str(path),
        file_format=FileFormat.JSONL,
        sha256=digest,
        row_count=len(rows),
        kind=kind,
        mapping={column: column for column in rows[0]} if kind is DatasetKind.PREFERENCE else None,
    )


def make_spec(
    base: Path, train: DatasetRef, *, attempt: int = 1, held_out: DatasetRef | None = None, **config: Any
) -> TrainSpec:
    small = {"max_length": 64, "generate_max_rows": 2, "max_new_tokens": 4, "epochs": 2, "batch_size": 8}
    hyperparameters, _ = resolve(small | config, kind=train.kind)
    return TrainSpec(
        run_id="run",
        experiment_id="experiment",
        attempt=attempt,
        model=ModelRef(model_id="base", name="Tiny", path=str(base)),
        train=train,
        eval=held_out,
        config=hyperparameters,
        threads=1,
    )


def make_run(directory: Path, spec: TrainSpec) -> Path:
    """A run directory ready for `python -m slm.run`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "run.json").write_text(spec.model_dump_json())
    return directory


def events_of(directory: Path, *types: str) -> list[dict[str, Any]]:
    """The log's events of the given types (beats only where asked for)."""
    return [event for event in iter_events(directory / "events.jsonl") if not types or event["type"] in types]


def result(directory: Path, base: Path, method: Method | None = None) -> ModelRef:
    """What a run made, as another run refers to it."""
    adapter = directory / "artifacts" / "adapter"
    if adapter.is_dir():
        return ModelRef(model_id="tuned", name="Tuned", path=str(base), adapters=(str(adapter),), method=method)
    return ModelRef(model_id="tuned", name="Tuned", path=str(directory / "artifacts" / "model"), method=method)


@dataclass(frozen=True)
class Outcome:
    """What two runs of the same spec must have in common."""

    steps: dict[int, float]
    curve: dict[str, Any]
    weights: bytes
    metrics: dict[str, float]


def outcome(directory: Path) -> Outcome:
    events = events_of(directory)
    (ended,) = [event for event in events if event["type"] == "finished"]
    (weights,) = (directory / "artifacts").glob("*/*.safetensors")
    # A step that was repeated must have come out the same.
    steps: dict[int, float] = {}
    for event in events:
        if event["type"] == "step":
            assert steps.setdefault(event["step"], event["loss"]) == event["loss"]
    card = ended["evaluation"]
    return Outcome(steps, card["loss_curve"], weights.read_bytes(), card["metrics"])
