"""What anyone should beat before shipping a model: a constant, a linear model, word frequencies, a good prompt.

Each is fitted on the training rows alone, is the same for the same seed, and answers the very rows that the models
answered. A baseline that cannot be made (no training rows at hand, one label only, no room for examples in the prompt)
is absent, never invented.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from slm.data.examples import Classification, Messages, PromptCompletion
from slm.data.render import IGNORED, Rendered
from slm.labels import label_metrics
from slm.metrics import Metric, Tally
from slm.overlap import Numbered, words_of

FITTED_ROWS = 20_000
"""At most so many training rows are fitted by the linear model, so that it takes seconds."""
FITTED_CHARACTERS = 10_000
"""Of each text."""
FEATURES = 50_000
FITTED_TOKENS = 20_000_000
SHOTS = 4
"""Training examples shown to the base, for a fair comparison."""
FEW_SHOT_CONTEXT = 4096
Wait = Callable[[], None]
"""Called again and again while something long goes on; raises to stop."""


@dataclass(frozen=True)
class Baseline:
    """Another way to answer the same rows."""

    metrics: Mapping[str, Metric]
    note: str


def label_baselines(
    learned: Iterable[Numbered], texts: Sequence[str], expected: Sequence[str], *, seed: int, wait: Wait
) -> dict[str, Baseline]:
    """`majority` and `tfidf_logreg`, fitted on the labelled texts of `learned`; none where there are none."""
    rows = [example for _, example in islice(learned, FITTED_ROWS) if isinstance(example, Classification)]
    if not rows:
        return {}
    counts = Counter(row.label for row in rows)
    commonest = min(counts, key=lambda label: (-counts[label], label))
    share = counts[commonest] / len(rows)
    found = {
        "majority": Baseline(
            label_metrics(expected, [commonest] * len(expected)),
            f"Always says '{commonest}', the label of {share:.0%} of {len(rows)} training rows.",
        )
    }
    if len(counts) > 1:
        given = _while_waiting(lambda: _tfidf_logreg(rows, texts, seed=seed), wait)
        if given is not None:
            note = f"TF-IDF of words and pairs of words, logistic regression (C = 10), fitted on {len(rows)} rows."
            found["tfidf_logreg"] = Baseline(label_metrics(expected, given), note)
    return found


def _tfidf_logreg(rows: Sequence[Classification], texts: Sequence[str], *, seed: int) -> list[str] | None:
    """The label of each text; None where the training texts hold no word."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectors = TfidfVectorizer(
        tokenizer=words_of,
        token_pattern=None,
        lowercase=False,
        ngram_range=(1, 2),
        sublinear_tf=True,
        max_features=FEATURES,
    )
    learned = [row.text[:FITTED_CHARACTERS] for row in rows]
    if not any(map(words_of, learned)):
        return None
    model = LogisticRegression(C=10, max_iter=200, random_state=seed)
    with warnings.catch_warnings():
        # Not quite converged is a baseline all the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(vectors.fit_transform(learned), [row.label for row in rows])
    if not texts:
        return []
    return [str(label) for label in model.predict(vectors.transform(text[:FITTED_CHARACTERS] for text in texts))]


def unigram(
    learned: Iterable[Rendered], rows: Sequence[Rendered], *, vocabulary: int, marks: frozenset[int] | None = None
) -> Baseline | None:
    """The loss of guessing each token by its frequency in the training rows; None without any training row.

    Add-one smoothing over the model's vocabulary; over the tokens that the rows ask the model for. With `marks`, what
    is counted are whole texts but for these tokens (where only some tokens of a text are asked for at a time).
    """
    counts: Counter[int] = Counter()
    total = 0
    for row in learned:
        tokens = asked(row) if marks is None else _text(row, marks)
        counts.update(tokens)
        total += len(tokens)
        if total >= FITTED_TOKENS:
            break
    if not total:
        return None
    scale = math.log(total + vocabulary)
    losses = [sum(scale - math.log(counts[token] + 1) for token in asked(row)) for row in rows]
    tokens_of = [float(len(asked(row))) for row in rows]
    return Baseline(
        {"loss": Tally.of(losses, tokens_of), "perplexity": Tally.of(losses, tokens_of, exponential=True)},
        f"Each token guessed by its frequency among {total} training tokens of this tokenizer, add-one smoothed.",
    )


def _text(row: Rendered, marks: frozenset[int]) -> list[int]:
    """The tokens of a row as they were before some of them were hidden."""
    found = (token if label == IGNORED else label for token, label in zip(row.input_ids, row.labels, strict=True))
    return [token for token in found if token not in marks]


def asked(row: Rendered) -> list[int]:
    """The tokens of a row that carry loss."""
    return [label for label in row.labels[1:] if label != IGNORED]


def shots(learned: Iterable[Numbered]) -> list[tuple[str, str]]:
    """The first training rows that are one question and its answer, at most `SHOTS`."""
    pairs = (pair for _, example in learned if (pair := _pair(example)) is not None)
    return list(islice(pairs, SHOTS))


def _pair(example: object) -> tuple[str, str] | None:
    if isinstance(example, PromptCompletion):
        return example.prompt, example.completion
    if isinstance(example, Messages) and [turn.role for turn in example.messages] == ["user", "assistant"]:
        return example.messages[0].content, example.messages[1].content
    return None


_PLACE = "§PLACE§"


def frame(tokenizer: Any, earlier: Sequence[tuple[str, str]] = ()) -> tuple[list[int], list[int]]:
    """Token ids that the chat template puts before and after one user's question that follows `earlier` turns."""
    turns = [{"role": role, "content": content} for role, content in (*earlier, ("user", _PLACE))]
    text = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    head, _, tail = text.rpartition(_PLACE)
    before, after = (list(tokenizer(part, add_special_tokens=False)["input_ids"]) for part in (head, tail))
    return before, after


def few_shot_prompts(
    tokenizer: Any, rows: Sequence[Rendered], examples: Sequence[tuple[str, str]], *, context: int, answer: int
) -> list[list[int]] | None:
    """Each row's prompt with the examples before it, as earlier turns of the same conversation.

    None (no such baseline) without examples, rows or a chat template, where a row has a system prompt of its own, and
    where the longest prompt and an answer of `answer` tokens would not fit the model's `context`.
    """
    if not examples or not rows or not getattr(tokenizer, "chat_template", None):
        return None
    head, tail = frame(tokenizer)
    earlier = [turn for prompt, answer_ in examples for turn in (("user", prompt), ("assistant", answer_))]
    lead, end = frame(tokenizer, earlier)
    if end != tail or any(row.prompt_ids[: len(head)] != head for row in rows):
        return None
    prompts = [lead + row.prompt_ids[len(head) :] for row in rows]
    return prompts if max(map(len, prompts)) + answer <= min(context, FEW_SHOT_CONTEXT) else None


def _while_waiting(work: Callable[[], list[str] | None], wait: Wait) -> list[str] | None:
    """What `work` gives, done in a thread, so that the run beats and can be cancelled meanwhile."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="baseline")
    future = pool.submit(work)
    try:
        wait()
        while futures.wait([future], timeout=0.5).not_done:
            wait()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return future.result()
