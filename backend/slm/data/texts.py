"""Texts for models that read them as a whole: tokens with the marks that the tokenizer puts around them."""

from __future__ import annotations

from typing import Any

from slm.data.examples import Classification, Example, Text
from slm.data.render import BaseRenderer, Dropped


class TextRenderer(BaseRenderer):
    """Reads the text of an example, cut at `max_length`; what is made of it is the method's own."""

    def __init__(self, tokenizer: Any, *, max_length: int) -> None:
        super().__init__(tokenizer, max_length=max_length)
        self.marks = int(tokenizer.num_special_tokens_to_add())
        """How many tokens the tokenizer puts around every text ([CLS] and [SEP], or a begin-of-text token)."""

    def read(self, example: Example, line: int) -> tuple[list[int], bool] | Dropped:
        """(tokens with the tokenizer's marks, whether the text was cut), or why there is nothing to read."""
        if not isinstance(example, Text | Classification):
            return Dropped(line, f"{type(example).__name__} examples are not for this method.")
        size = len(self._tokens(example.text))
        if size == 0:
            return Dropped(line, "It is too short.")
        dressed = self.tokenizer(example.text, truncation=True, max_length=self.max_length, verbose=False)
        return list(dressed["input_ids"]), size + self.marks > self.max_length
