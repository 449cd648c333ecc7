"""From tokens to words as they come: what may be said now, and what has to wait.

A character that is split over several tokens waits for its last one, text that may be the beginning of a stop string
waits until it is none, and blanks wait for a word after them. What was said, joined, is exactly the answer: without
stop strings and without blanks around it. Pure text; called for each new token by `slm.generate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_SPLIT = "\ufffd"
_LONGEST_SPLIT = 8
"""Tokens that one character can be split over (byte-level vocabularies); after so many it is no character."""


class Wording:
    """The words of one answer. `decode` turns token ids into text; special tokens must be left out by it."""

    def __init__(self, decode: Callable[[list[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = [text for text in stop if text]
        self._ids: list[int] = []
        self._settled = 0
        """Index of the first id of the window; decoding starts a little before the new ids, because a tokenizer may
        write a word differently at the beginning of a text."""
        self._read = 0
        self._held = ""
        self._blanks = ""
        self.text = ""
        """All that was said."""
        self.stopped = False
        """Whether a stop string came; nothing is said after it."""

    def add(self, token: int) -> str:
        """Take one more token; returns what may be said now."""
        if self.stopped:
            return ""
        self._ids.append(token)
        return self._say(self._new_text(final=False), final=False)

    def close(self) -> str:
        """No token follows: returns what was still held back."""
        if self.stopped:
            return ""
        said = self._say(self._new_text(final=True), final=True)
        self._held = self._blanks = ""
        return said

    def _new_text(self, *, final: bool) -> str:
        before = self._decode(self._ids[self._settled : self._read])
        now = self._decode(self._ids[self._settled :])
        waiting = len(self._ids) - self._read
        if not final and now.endswith(_SPLIT) and waiting < _LONGEST_SPLIT:
            return ""
        self._settled, self._read = self._read, len(self._ids)
        return now[len(before) :]

    def _say(self, text: str, *, final: bool) -> str:
        self._held += text
        found = [at for at in (self._held.find(stop) for stop in self._stop) if at >= 0]
        if found:
            ready, self._held, self.stopped = self._held[: min(found)], "", True
        else:
            keep = 0 if final else self._may_begin_a_stop()
            ready, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return self._without_blanks(ready)

    def _may_begin_a_stop(self) -> int:
        """Length of the longest end of the held text that a stop string begins with."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-length:]
            if any(stop.startswith(end) for stop in self._stop):
                return length
        return 0

    def _without_blanks(self, text: str) -> str:
        text = self._blanks + text
        if not self.text:
            text = text.lstrip()
        said = text.rstrip()
        self._blanks = text[len(said) :]
        self.text += said
        return said
