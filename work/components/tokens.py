"""The token view: what a model would learn of an example, token by token. HTML, made by pure functions.

Learned tokens are coloured, tokens that are only read are grey, what `max_length` takes away is struck through; `mark`
and `del` say the same to a screen reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from components.words import count, escaped, percent

LEGEND = (
    '<p class="tokens legend"><mark>learned</mark> <span>only read</span> <del>cut off by the length limit</del></p>'
)


class Piece(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def id(self) -> int: ...
    @property
    def learned(self) -> bool: ...


class Example(Protocol):
    """An example of a preview, as `slm_client` gives it."""

    @property
    def line(self) -> int: ...
    @property
    def pieces(self) -> Sequence[Any]: ...
    @property
    def cut(self) -> Sequence[Any]: ...
    @property
    def cut_tokens(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def learned_tokens(self) -> int: ...
    @property
    def dropped(self) -> str | None: ...
    @property
    def label(self) -> str | None: ...
    @property
    def side(self) -> str | None: ...


def as_html(example: Example) -> str:
    """One example with its heading."""
    head = f"<h3>{escaped(heading(example))}</h3>"
    if example.dropped is not None:
        return f'<section class="tokenized">{head}<p class="fault">Left out: {escaped(example.dropped)}</p></section>'
    body = "".join(map(_piece, example.pieces)) + "".join(_cut(piece) for piece in example.cut)
    more = example.cut_tokens - len(example.cut)
    rest = f"<em> … {count(more, 'more token')} cut</em>" if more > 0 else ""
    return f'<section class="tokenized">{head}<p class="tokens">{body}{rest}</p></section>'


def heading(example: Example) -> str:
    """`Line 2: 83 tokens, 41 learned, 12 cut off; label refund`."""
    parts = [f"{count(example.tokens, 'token')}", f"{count(example.learned_tokens)} learned"]
    if example.cut_tokens:
        parts.append(f"{count(example.cut_tokens)} cut off")
    side = f" ({example.side})" if example.side else ""
    label = f"; label {example.label}" if example.label is not None else ""
    return f"Line {example.line}{side}: {', '.join(parts)}{label}"


def summary(counts: Mapping[str, int], rows_read: int, rows_total: int) -> str:
    """What would be learned of the whole, in a sentence."""
    tokens, learned = counts.get("tokens", 0), counts.get("learned_tokens", 0)
    examples = count(counts.get("examples", 0), "example")
    share = percent(learned / tokens) if tokens else "none"
    text = f"{examples} with {count(tokens, 'token')}, of which {count(learned)} ({share}) are learned."
    for name, verb in (("truncated", "cut off at the length limit"), ("dropped", "left out")):
        if counts.get(name):
            number = counts[name]
            text += f" {count(number)} {'is' if number == 1 else 'are'} {verb}."
    return text if rows_read >= rows_total else f"{text} Counted on {count(rows_read)} of {count(rows_total, 'row')}."


def _piece(piece: Piece) -> str:
    tag = "mark" if piece.learned else "span"
    return f'<{tag} title="token {piece.id}">{_visible(piece.text)}</{tag}>'


def _cut(piece: Piece) -> str:
    return f'<del title="token {piece.id}, cut off">{_visible(piece.text)}</del>'


def _visible(text: str) -> str:
    """Line breaks and tabs as signs a person can see; the break itself stays."""
    return escaped(text).replace("\t", "⇥\t").replace("\r", "␍").replace("\n", "⏎\n") or "∅"
