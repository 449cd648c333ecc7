"""A model as far as formulas look at it, by its `config.json` or by its size alone. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slm.spec import Adapter, Hyperparameters

LEAST_BODY = 0.3
"""A share of the parameters that multiplies every token, however large the vocabulary is said to be."""

SCRATCH: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "tie_word_embeddings": True,
}
"""Of a small model that is made new: three to five million parameters (`slm.scratch`)."""
SCRATCH_WORDS = (512, 4096)
"""The least and the most entries of its vocabulary."""
_CHARACTERS_PER_ENTRY = 64
"""A vocabulary entry is worth having where the data are this many times longer."""


def scratch_vocabulary(characters: int) -> int:
    """Entries for data of so many characters."""
    least, most = SCRATCH_WORDS
    return min(most, max(least, characters // _CHARACTERS_PER_ENTRY // 64 * 64))


@dataclass(frozen=True)
class Shape:
    parameters: int
    hidden: int
    layers: int
    intermediate: int
    keys: int
    """Width of the keys, and of the values; that of the queries is `hidden`."""
    vocabulary: int
    gated: bool
    """Whether the feed-forward layers have three matrices, as Llama's, and not two."""
    positions: int | None = None
    """The longest text it reads, in tokens, where it has such a limit."""
    templated: bool = False
    """Whether a chat template comes with it."""

    @classmethod
    def of(cls, parameters: int, config: Mapping[str, Any] | None, *, templated: bool = False) -> Shape:
        """From the `config.json` beside the weights; without one, what such a size usually looks like.

        `parameters` 0 means that nobody has counted them.
        """
        found = config or {}

        def number(*names: str, default: int) -> int:
            return next((int(found[name]) for name in names if isinstance(found.get(name), int)), default)

        guess = 64
        while 12 * (guess / 64) * guess**2 + 32_000 * guess < parameters:
            guess += 64
        hidden = number("hidden_size", "n_embd", "d_model", default=guess)
        layers = number("num_hidden_layers", "n_layer", "num_layers", default=max(2, hidden // 64))
        heads = number("num_attention_heads", "n_head", default=max(1, hidden // 64))
        keys = number("num_key_value_heads", default=heads) * number("head_dim", default=hidden // max(heads, 1))
        intermediate = number("intermediate_size", "n_inner", default=4 * hidden)
        vocabulary = number("vocab_size", default=32_000)
        gated = str(found.get("model_type", "")) not in {"", "gpt2", "bert", "distilbert", "roberta"}
        layer = 2 * hidden * (hidden + keys) + (3 if gated else 2) * hidden * intermediate
        return cls(
            parameters=parameters or layers * layer + vocabulary * hidden,
            hidden=hidden,
            layers=layers,
            intermediate=intermediate,
            keys=keys,
            vocabulary=vocabulary,
            gated=gated,
            positions=number("max_position_embeddings", "n_positions", default=0) or None,
            templated=templated,
        )

    @classmethod
    def from_scratch(cls, characters: int) -> Shape:
        """Of a new model that learns so many characters."""
        return cls.of(0, SCRATCH | {"vocab_size": scratch_vocabulary(characters)})

    @property
    def body(self) -> int:
        """Parameters that multiply every token: all but the table of words, of which a token takes one row."""
        return max(self.parameters - self.head, round(LEAST_BODY * self.parameters))

    @property
    def head(self) -> int:
        """Parameters that turn a state into the chance of every word; used where a word is foretold."""
        return self.vocabulary * self.hidden

    def learned(self, config: Hyperparameters) -> int:
        """Parameters that learn."""
        if config.adapter is Adapter.FULL:
            return self.parameters
        attention = 4 * self.hidden + 2 * (self.hidden + self.keys)
        feed_forward = (3 if self.gated else 2) * (self.hidden + self.intermediate)
        return config.lora_r * self.layers * (attention + feed_forward)
