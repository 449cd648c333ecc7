"""Which methods fit which data and base models, in the words of people who choose. Pure functions.

The service decides; this table only keeps from offering what it would refuse, and says why.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple


class Method(NamedTuple):
    title: str
    purpose: str
    kinds: frozenset[str]
    """Kinds of data it learns from."""
    bases: frozenset[str]
    """Kinds of base model that can learn by it."""
    adapter: str = "lora"
    """The usual one."""


class Choice(NamedTuple):
    """A method that fits, or why it does not."""

    name: str
    why_not: str = ""

    @property
    def fits(self) -> bool:
        return not self.why_not


_CAUSAL, _ENCODER = frozenset({"causal"}), frozenset({"encoder"})
METHODS: dict[str, Method] = {
    "sft": Method(
        "Answer as the examples do",
        "Learns to continue a prompt or a conversation as your data do.",
        frozenset({"messages", "prompt_completion", "text"}),
        _CAUSAL,
    ),
    "classify": Method(
        "Label texts",
        "Learns to give each text one of your labels.",
        frozenset({"classification"}),
        _CAUSAL | _ENCODER,
    ),
    "dpo": Method(
        "Prefer better answers",
        "Learns which of two answers people prefer.",
        frozenset({"preference"}),
        _CAUSAL,
    ),
    "pretrain": Method(
        "Go on reading plain text",
        "Learns the language of plain texts; no questions, no answers.",
        frozenset({"text"}),
        _CAUSAL,
    ),
    "mask": Method(
        "Fill in hidden words",
        "Teaches an encoder the language of your texts.",
        frozenset({"text", "classification"}),
        _ENCODER,
        "full",
    ),
}
KINDS = {
    "messages": "conversations",
    "prompt_completion": "prompts with completions",
    "preference": "pairs of a better and a worse answer",
    "classification": "texts with labels",
    "text": "plain texts",
}
ADAPTERS = {
    "lora": ("LoRA", "A small set of weights beside the base: a quarter of the memory, and the base stays whole."),
    "full": ("Every weight", "All weights learn: more memory, and a model of its own."),
    "qlora": ("QLoRA", "A small set of weights beside a base in four bits: the least memory."),
}
"""Title and purpose."""
_READS = {"causal": "continues text", "encoder": "reads text as a whole"}


def choices(kind: str | None, base: str | None, *, known: Collection[str]) -> list[Choice]:
    """Every method of the service (`known`), those that fit first, the usual one for such data at the top."""
    found = [Choice(name, _why_not(METHODS[name], kind, base)) for name in METHODS if name in known]
    return sorted(found, key=lambda choice: (not choice.fits, choice.name != _usual(kind, base)))


def _usual(kind: str | None, base: str | None) -> str:
    if kind == "text" and base == "encoder":
        return "mask"
    return {"classification": "classify", "preference": "dpo"}.get(kind or "", "sft")


def _why_not(method: Method, kind: str | None, base: str | None) -> str:
    if kind is not None and kind not in method.kinds:
        wanted = " or ".join(KINDS[one] for one in KINDS if one in method.kinds)
        return f"it learns from {wanted}; these data are {KINDS.get(kind, kind)}"
    if base is not None and base not in method.bases:
        wanted = " or ".join(_READS[one] for one in _READS if one in method.bases)
        return f"it needs a base that {wanted}; this one {_READS.get(base, base)}"
    return ""


def adapters(method: str, *, known: Collection[str], gpu: bool) -> list[Choice]:
    """Every adapter of the service, those that fit first, the method's usual one at the top."""
    usual = METHODS[method].adapter if method in METHODS else "lora"
    found = [
        Choice(name, "it needs a CUDA GPU, and the service's machine has none" if name == "qlora" and not gpu else "")
        for name in ADAPTERS
        if name in known
    ]
    return sorted(found, key=lambda choice: (not choice.fits, choice.name != usual))
