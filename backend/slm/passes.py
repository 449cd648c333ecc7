"""Which rows a scorecard looks at, which of them are answered in words, and how far all that has come."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from slm.data.render import Rendered
from slm.generate import Sampling
from slm.methods import METHODS
from slm.spec import Method, Scoring

ANSWER_WORK = 6
"""What answering one row costs, in rows scored for loss; only shapes the progress shown."""
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Passes:
    """The rows that a scorecard looks at, and how they are answered."""

    scored: list[Rendered]
    answered: list[Rendered]
    available: int
    sampling: Sampling


def choose(tokenizer: Any, rendered: Sequence[Rendered], method: Method, scoring: Scoring) -> Passes:
    """Seeded samples where there are more rows than the caps allow; the answered rows are among the scored ones."""
    generator = random.Random(scoring.seed)
    scored = _sample(generator, [row for row in rendered if row.learned], scoring.eval_max_rows)
    answers = METHODS[method].ANSWERS
    answerable = [row for row in scored if answers and row.expected is not None and row.prompt_ids]
    answered = _sample(generator, answerable, scoring.generate_max_rows)
    longest = max((len(tokenizer(row.expected)["input_ids"]) for row in answered), default=0)
    # Half as long again as the longest expected answer: who has not stopped by then has not answered as asked.
    limit = min(scoring.max_new_tokens, longest + max(8, longest // 2))
    return Passes(scored, answered, len(rendered), Sampling(max(1, limit)))


def _sample(generator: random.Random, rows: list[Rendered], most: int) -> list[Rendered]:
    if len(rows) <= most:
        return rows
    return [rows[index] for index in sorted(generator.sample(range(len(rows)), most))]


class Progress:
    """Counts work over all passes, so that one bar runs from nothing to done; asks at each piece whether to go on."""

    def __init__(self, report: Report, check: Callable[[], None], passes: Passes, *, models: int, shots: bool) -> None:
        answers = len(passes.answered) * ANSWER_WORK
        self._report, self._check = report, check
        self._total = models * (len(passes.scored) + answers) + (answers if shots else 0)
        self._done = 0.0

    def scored(self, rows: int) -> None:
        self._done += rows
        self.alive()

    def tick(self) -> Callable[[float, int], None]:
        """A callback for one pass of answering; the next pass begins where this one should end."""
        before = self._done

        def tick(done: float, total: int) -> None:
            self._done = before + done * ANSWER_WORK
            self.alive()

        return tick

    def alive(self) -> None:
        """Say how far it is; raises to stop."""
        self._check()
        self._report("evaluating", min(self._total, round(self._done)), self._total)
