"""Everything that shapes the learning: what each method takes and usually wants, and the one place of every default.

pydantic and the standard library only, so that the platform may import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from slm.terms import Adapter, DatasetKind, Frozen, Method

CAUSAL, ENCODER = "causal", "encoder"
"""What a base model is by its architecture: one that continues text, or one that reads it as a whole."""

CHECKPOINTS_A_RUN: dict[Adapter, int] = {Adapter.LORA: 10, Adapter.QLORA: 10, Adapter.FULL: 4}
"""Where `save_steps` is left to the run, beside those at each evaluation; a full model's is three times the model."""

Rates = tuple[float, float, float]
"""Learning rates: (lowest usual, default, highest usual); outside the range a creation warns."""


@dataclass(frozen=True)
class MethodFacts:
    """What the platform knows of a method before anything is loaded."""

    purpose: str
    """What is learned, as the end of "this method …"."""
    kinds: frozenset[DatasetKind]
    """The kinds of data it can learn from."""
    bases: frozenset[str]
    """The kinds of base model that can learn by it."""
    rates: dict[Adapter, Rates]
    adapter: Adapter = Adapter.LORA
    """Taken where none is asked for."""
    why_adapter: str = "LoRA learns with a quarter of the memory and keeps the base intact"
    epochs: float = 3


_TALK = frozenset({DatasetKind.MESSAGES, DatasetKind.PROMPT_COMPLETION, DatasetKind.TEXT})
_PLAIN = frozenset({DatasetKind.TEXT, DatasetKind.CLASSIFICATION})
_LORA_RATES: Rates = (5e-5, 2e-4, 2e-3)
_FULL_RATES: Rates = (5e-6, 2e-5, 2e-4)
_SCRATCH_RATES: Rates = (1e-4, 1e-3, 5e-3)
_LIKE_SFT = {Adapter.LORA: _LORA_RATES, Adapter.FULL: _FULL_RATES, Adapter.QLORA: _LORA_RATES}

METHOD_FACTS: dict[Method, MethodFacts] = {
    Method.SFT: MethodFacts(
        "continues a prompt or a conversation as the data do", _TALK, frozenset({CAUSAL}), _LIKE_SFT
    ),
    Method.PRETRAIN: MethodFacts(
        "continues plain text", frozenset({DatasetKind.TEXT}), frozenset({CAUSAL}), _LIKE_SFT, epochs=1
    ),
    Method.CLASSIFY: MethodFacts(
        "gives each text one of the data's labels",
        frozenset({DatasetKind.CLASSIFICATION}),
        frozenset({CAUSAL, ENCODER}),
        {Adapter.LORA: (1e-4, 5e-4, 5e-3), Adapter.FULL: (1e-5, 5e-5, 5e-4), Adapter.QLORA: (1e-4, 5e-4, 5e-3)},
    ),
    Method.MASK: MethodFacts(
        "fills in words that are hidden from it",
        _PLAIN,
        frozenset({ENCODER}),
        {Adapter.LORA: (5e-5, 5e-4, 5e-3), Adapter.FULL: (1e-5, 5e-5, 5e-4), Adapter.QLORA: (5e-5, 5e-4, 5e-3)},
        adapter=Adapter.FULL,
        why_adapter="the whole encoder has to learn the language of the data, so that it can be a base itself",
    ),
    Method.DPO: MethodFacts(
        "prefers the better of two answers",
        frozenset({DatasetKind.PREFERENCE}),
        frozenset({CAUSAL}),
        {Adapter.LORA: (1e-6, 2e-5, 5e-4), Adapter.FULL: (1e-7, 1e-6, 1e-5), Adapter.QLORA: (1e-6, 2e-5, 5e-4)},
        epochs=1,
    ),
}
"""The platform's half of the registry of methods; `slm.methods.METHODS` is the other."""


class Hyperparameters(Frozen):
    """Everything that shapes the learning, resolved. Names follow Hugging Face `TrainingArguments`,
    except `learning_rate`, `epochs` and `batch_size`, which mean what the product's clients mean by them."""

    method: Method
    """What is learned: `sft` continues a prompt or a conversation, `pretrain` plain text; `classify` labels texts;
    `mask` fills in hidden words; `dpo` prefers the better of two answers."""
    adapter: Adapter
    """Which parameters learn: `lora` a small set beside the frozen base, `full` all of them, `qlora` a small set
    beside a base in four bits (CUDA only)."""
    learning_rate: float = Field(gt=0, le=1)
    """Peak learning rate."""
    epochs: float = Field(gt=0, le=1000)
    """Passes over the training examples; ended earlier by `max_steps` or early stopping."""
    batch_size: int = Field(ge=1, le=4096)
    """Examples per optimizer step (the effective batch); the micro-batch is chosen for the machine."""
    per_device_train_batch_size: int | None = Field(default=None, ge=1, le=4096)
    """The micro-batch, if you insist; null lets the run choose for the machine."""
    max_steps: int | None = Field(default=None, ge=1, le=10_000_000)
    """Stop after so many optimizer steps; null means the epochs decide."""
    max_length: int = Field(ge=8, le=131_072)
    """Longest example in tokens; what is beyond is cut, counted and reported."""
    packing: bool = False
    """Of `pretrain`: fill every sequence up to `max_length` with as many texts as fit, instead of one each."""
    from_scratch: bool = False
    """Of `pretrain` in `full`: a small new model of the base's architecture with a tokenizer trained on the data."""
    lora_r: int = Field(ge=1, le=1024)
    """Rank of the LoRA matrices."""
    lora_alpha: float = Field(gt=0, le=4096)
    """LoRA scale: the update is multiplied by alpha / r."""
    lora_dropout: float = Field(ge=0, lt=1)
    """Dropout on the LoRA input."""
    warmup_ratio: float = Field(ge=0, le=1)
    """Share of all steps over which the learning rate rises from zero."""
    weight_decay: float = Field(ge=0, le=1)
    """AdamW's decoupled weight decay."""
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup"]
    """How the learning rate falls after warm-up."""
    seed: int = Field(ge=0, lt=2**31)
    """Seeds data order, dropout, the held-out split and initial adapter weights."""
    eval_fraction: float = Field(ge=0, le=0.5)
    """Share of the training data held out when no evaluation dataset is given; 0 holds nothing out."""
    early_stopping_patience: int | None = Field(default=None, ge=1, le=1000)
    """Stop after so many evaluations without a lower validation loss; null never stops early, left out it is 3."""
    save_steps: int | None = Field(default=None, ge=1, le=10_000_000)
    """Steps between checkpoints; null lets the run choose (about ten a run, and one at each evaluation)."""
    save_total_limit: int = Field(default=2, ge=1, le=100)
    """Checkpoints kept: the newest ones; the best is always kept beside them."""
    eval_max_rows: int = Field(default=256, ge=1, le=1_000_000)
    """At most so many held-out rows are scored (loss); the scorecard says how many."""
    generate_max_rows: int = Field(default=64, ge=0, le=100_000)
    """At most so many held-out rows are answered by generation for exact match and token F1."""
    max_new_tokens: int = Field(default=96, ge=1, le=8192)
    """Longest generated answer in scoring."""
    dpo_beta: float = Field(default=0.1, gt=0, le=10)
    """Of `dpo`: how firmly the model is held to its base; lower lets it move further."""

    @model_validator(mode="after")
    def _from_scratch_is_whole(self) -> Hyperparameters:
        if self.from_scratch and (self.method is not Method.PRETRAIN or self.adapter is not Adapter.FULL):
            raise ValueError("from_scratch is for method pretrain with adapter full")
        return self


NULL_IS_MEANT = frozenset({"early_stopping_patience"})
"""Hyperparameters with a default that may yet be null, which is then a choice like another."""


def usual_rates(config: Hyperparameters) -> Rates:
    """The learning rates that are usual for such a training."""
    return _SCRATCH_RATES if config.from_scratch else METHOD_FACTS[config.method].rates[config.adapter]


def default_method(kind: DatasetKind | None, base: str | None) -> tuple[Method, str]:
    """The method for such data on such a base model (`causal`, `encoder`), and why."""
    if kind is DatasetKind.CLASSIFICATION:
        return Method.CLASSIFY, "the data are texts with labels"
    if kind is DatasetKind.PREFERENCE:
        return Method.DPO, "the data are pairs of a better and a worse answer"
    if kind is DatasetKind.TEXT and base == ENCODER:
        return Method.MASK, "the base is an encoder, which learns plain text by filling in hidden words"
    return Method.SFT, "continuing prompts is what most data are for"


def resolve(
    requested: dict[str, Any], *, seed: int = 42, kind: DatasetKind | None = None, base: str | None = None
) -> tuple[Hyperparameters, dict[str, str]]:
    """Fill in what was left out, or is null where null says nothing of its own (`NULL_IS_MEANT`).

    Returns the hyperparameters and, for each default taken, the reason for it.

    `kind` of the training data and the kind of `base` model (`causal`, `encoder`) decide the method where none is
    given. Raises `pydantic.ValidationError` for values out of range or unknown keys, `ValueError` for an unknown method
    or adapter.
    """
    given = {key: value for key, value in requested.items() if value is not None or key in NULL_IS_MEANT}
    scratch = given.get("from_scratch") is True
    usual_method, why_method = default_method(kind, base)
    if scratch:
        usual_method, why_method = Method.PRETRAIN, "a new model has to learn the language first"
    method = Method(given.get("method", usual_method))
    facts = METHOD_FACTS[method]
    adapter = Adapter(given.get("adapter", Adapter.FULL if scratch else facts.adapter))
    rates = _SCRATCH_RATES if scratch else facts.rates[adapter]
    whole = adapter is Adapter.FULL
    defaults: dict[str, tuple[Any, str]] = {
        "method": (method, why_method),
        "adapter": (adapter, "a new model has to learn everything" if scratch else facts.why_adapter),
        "learning_rate": (
            rates[1],
            f"usual for {method.value} {'from scratch' if scratch else f'with {adapter.value}'}",
        ),
        "epochs": (facts.epochs, _why_epochs(facts.epochs)),
        "batch_size": (8, "small effective batches learn more from few rows"),
        "max_length": (1024, "longer examples are cut and counted"),
        "packing": (False, "one text a sequence keeps texts apart"),
        "lora_r": (16, _WITHOUT_LORA if whole else "the common rank for all-linear LoRA"),
        "lora_alpha": (_alpha(given.get("lora_r", 16)), _WITHOUT_LORA if whole else "twice the rank"),
        "lora_dropout": (0.0, _WITHOUT_LORA if whole else "dropout slows learning from few rows"),
        "warmup_ratio": (0.05, "a short warm-up steadies the first steps"),
        "weight_decay": (
            0.0,
            "decay shows in long trainings only" if whole else "adapters are small; decay rarely helps",
        ),
        "lr_scheduler_type": ("cosine", "falls smoothly to zero"),
        "seed": (seed, "so that the same request gives the same curve"),
        "eval_fraction": (0.1, "a tenth is held out when no evaluation dataset is given"),
        "early_stopping_patience": (3, "stops when three evaluations bring nothing"),
    }
    resolved = {key: value for key, (value, _) in defaults.items()} | given
    reasons = {key: reason for key, (_, reason) in defaults.items() if key not in given}
    return Hyperparameters.model_validate(resolved), reasons


_WITHOUT_LORA = "without effect where all parameters learn"


def _alpha(rank: Any) -> float:
    """Twice the rank, as whoever sent it wrote it: 8, 8.0 and "8" are the same; what is no number is refused later."""
    try:
        return 2.0 * float(rank)
    except (TypeError, ValueError, OverflowError):
        return 32.0


def _why_epochs(epochs: float) -> str:
    if epochs == 1:
        return "one pass: this method soon learns by heart"
    return "three passes suit data sets of hundreds to thousands of rows"
