"""From an example to the tokens a model sees, and which of them it learns: the one path of training and preview.

A tokenizer with a chat template writes the conversation as the model was taught to read it; one without gets the plain
template below. Text is cut into segments at the border between what is given and what is learned, and every segment is
tokenised by itself, because that is what generation meets: a finished prompt, then new tokens. Learned are the
assistant's turns up to and with their stop token, or a plain text as a whole; every other label is `IGNORED`.

The plain template, for models that never saw a conversation (GPT-2):
    prompt and completion   PROMPT, a newline where neither side brings white space, COMPLETION, end of text
    messages                `System: …\\n`, `User: …\\n`, `Assistant: …` with end of text and `\\n` after each answer
    text                    TEXT, end of text
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from slm.data.examples import Example, Message, Messages, PromptCompletion, Text
from slm.errors import RunFailure

IGNORED = -100
"""The label of a token that carries no loss (PyTorch's default `ignore_index`)."""
_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}


@dataclass(frozen=True, slots=True)
class Piece:
    """One token as a person sees it; a character split over several tokens stands at the last of them."""

    text: str
    id: int
    learned: bool


@dataclass(frozen=True, slots=True)
class Reference:
    """What the base said of a pair of answers (log-probabilities in nats), and how firmly the model is held to it."""

    chosen: float
    rejected: float
    beta: float


@dataclass(frozen=True, slots=True)
class Rendered:
    """An example as tokens. `labels` is as long as `input_ids`: the token's id where it is learned, else `IGNORED`."""

    line: int
    input_ids: list[int]
    labels: list[int]
    prompt_ids: list[int]
    """What generation gets to answer the last turn; empty where there is nothing to answer."""
    expected: str | None
    """The answer that the data give to `prompt_ids`."""
    truncated: bool
    prompt: str | None = None
    """The question in words, where the example is one question and its answer."""
    unlearned_turns: int = 0
    """Earlier answers that the chat template rewrites once more is said, so that they are read but not learned."""
    labelled: bool = False
    """Whether a label of the whole (`expected`) is learned, and none of the tokens."""

    rejected: Rendered | None = None
    """The worse answer to the same prompt, where two are compared."""
    starts: tuple[int, ...] = (0,)
    """Where the texts begin that are packed into this sequence."""
    reference: Reference | None = None
    """What the base said of the two, once it was asked."""

    @property
    def learned(self) -> int:
        """Tokens that carry loss; the first of a sequence never does, for nothing predicts it. 1 where it is the label
        of the whole that does."""
        if self.labelled:
            return 1
        return sum(label != IGNORED for label in self.labels[1:]) + (self.rejected.learned if self.rejected else 0)

    @property
    def size(self) -> int:
        """Tokens to compute, of both answers where there are two."""
        return len(self.input_ids) + (self.rejected.size if self.rejected else 0)


@dataclass(frozen=True, slots=True)
class Dropped:
    """An example without anything left to learn, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Segment:
    text: str
    learned: bool = False
    ends: bool = False
    """Whether the end-of-text token follows, learned as the segment is."""


class BaseRenderer(ABC):
    """Turns examples into tokens for one tokenizer and one method.

    `tokenizer` is a `transformers` tokenizer; its own length limit is ignored, `max_length` (tokens) decides.
    """

    stratified = False
    """Whether held-out rows should hold each `expected` answer in its share of the whole."""

    def __init__(self, tokenizer: Any, *, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length

    @abstractmethod
    def render(self, example: Example, line: int) -> Rendered | Dropped:
        """The example as tokens, cut at `max_length`; `Dropped` where nothing is left to learn."""

    def arrange(self, rows: list[Rendered], *, held_out: bool = False) -> list[Rendered]:
        """The rows as they are learned or scored: one a sequence, where a method does not pack them."""
        return rows

    def again(self, row: Rendered, *, seed: int, epoch: int) -> Rendered:
        """The row as it is learned in one epoch: a pure function of its arguments, or a resumed run would differ."""
        return row

    def pieces(self, rendered: Rendered) -> list[Piece]:
        """The tokens of an example one by one, for a person to look at; their ids are exactly those of training."""
        pieces: list[Piece] = []
        pending: list[int] = []
        context: list[int] = []
        for token, label in zip(rendered.input_ids, rendered.labels, strict=True):
            pending.append(token)
            text = self._decode(context + pending)[len(self._decode(context)) :]
            if text.endswith("�") and len(pending) < 8:
                text = ""
            else:
                context, pending = pending[-1:] if len(pending) == 1 else [], []
            pieces.append(Piece(text, token, label != IGNORED))
        return pieces

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _decode(self, ids: Iterable[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


class Renderer(BaseRenderer):
    """What is to be continued: conversations, prompts, plain texts. Raises `RunFailure` where the tokenizer has no
    end-of-text token."""

    def __init__(self, tokenizer: Any, *, max_length: int) -> None:
        if tokenizer.eos_token_id is None:
            raise RunFailure(
                "model_unsupported", "The model's tokenizer has no end-of-text token, so it could not learn to stop."
            )
        super().__init__(tokenizer, max_length=max_length)
        self.has_template = bool(getattr(tokenizer, "chat_template", None))
        self._lead = self._leading_ids()
        self.stop_ids = frozenset({int(tokenizer.eos_token_id)}) | self._turn_end()

    def render(self, example: Example, line: int) -> Rendered | Dropped:
        """The example as tokens, cut at `max_length`; `Dropped` where no learned token is left."""
        if isinstance(example, Text):
            return self._finish(line, [_Segment(example.text, True, True)])
        if isinstance(example, PromptCompletion) and not self.has_template:
            border = "" if example.prompt[-1:].isspace() or example.completion[:1].isspace() else "\n"
            segments = [_Segment(example.prompt + border), _Segment(example.completion, True, True)]
            return self._finish(line, segments, example.completion, example.prompt)
        if isinstance(example, PromptCompletion):
            example = Messages((Message("user", example.prompt), Message("assistant", example.completion)))
        if not isinstance(example, Messages):
            return Dropped(line, f"{type(example).__name__} examples are not for this method.")
        last = max((at for at, turn in enumerate(example.messages) if turn.role == "assistant"), default=-1)
        if last < 0:
            return Dropped(line, "The conversation has no answer to learn from.")
        messages = example.messages[: last + 1]
        prompt = messages[0].content if [turn.role for turn in messages] == ["user", "assistant"] else None
        if not self.has_template:
            return self._finish(line, _plain_conversation(messages), messages[-1].content, prompt)
        try:
            found = self._conversation(messages)
        except (TemplateError, IndexError, KeyError, TypeError) as error:
            return Dropped(line, f"The model's chat template refuses the conversation: {error}")
        if isinstance(found, str):
            return Dropped(line, found)
        segments, unlearned = found
        return self._finish(line, segments, messages[-1].content, prompt, unlearned)

    def _conversation(self, messages: Sequence[Message]) -> tuple[list[_Segment], int] | str:
        """Segments of a conversation that ends with an answer, or why it cannot be learned."""
        whole = self._template(messages)
        segments: list[_Segment] = []
        position = unlearned = 0
        for at, turn in enumerate(messages):
            if turn.role != "assistant" or not any(earlier.role == "user" for earlier in messages[:at]):
                continue
            before = self._template(messages[:at], generation=True)
            after = whole if at + 1 == len(messages) else self._template(messages[: at + 1])
            if position <= len(before) and after.startswith(before) and whole.startswith(after):
                segments.append(_Segment(whole[position : len(before)]))
                segments.append(_Segment(whole[len(before) : len(after)], learned=True))
                position = len(after)
            elif at + 1 == len(messages):
                return "The model's chat template does not show where the last answer begins."
            else:
                unlearned += 1
        if not segments:
            return "No answer follows a user's message."
        return segments, unlearned

    def _finish(
        self,
        line: int,
        segments: Sequence[_Segment],
        expected: str | None = None,
        question: str | None = None,
        unlearned: int = 0,
    ) -> Rendered | Dropped:
        # A chat template writes its own begin-of-text token.
        ids = [] if self.has_template and expected is not None else list(self._lead)
        labels = [IGNORED] * len(ids)
        asked = 0
        for segment in segments:
            tokens = self._tokens(segment.text)
            if segment.ends:
                tokens.append(int(self.tokenizer.eos_token_id))
            if segment.learned:
                asked = len(ids)
                tokens, upto = self._until_stop(tokens)
                labels += tokens[:upto] + [IGNORED] * (len(tokens) - upto)
            else:
                labels += [IGNORED] * len(tokens)
            ids += tokens
        truncated = len(ids) > self.max_length
        prompt_ids = ids[:asked] if expected is not None and asked < self.max_length else []
        ids, labels = ids[: self.max_length], labels[: self.max_length]
        labels[:1] = [IGNORED] * len(labels[:1])
        if all(label == IGNORED for label in labels):
            why = f"Its prompt alone fills max_length ({self.max_length} tokens)." if truncated else "It is too short."
            return Dropped(line, why)
        answer, asking = (expected, question) if prompt_ids else (None, None)
        return Rendered(line, ids, labels, prompt_ids, answer, truncated, asking, unlearned)

    def _until_stop(self, tokens: list[int]) -> tuple[list[int], int]:
        """A learned segment's tokens and how many of them are learned: through the last stop token.

        Where the template writes none, the end-of-text token is added, or the model would never learn to stop.
        """
        stops = [at for at, token in enumerate(tokens) if token in self.stop_ids]
        if not stops:
            tokens = [*tokens, int(self.tokenizer.eos_token_id)]
            return tokens, len(tokens)
        return tokens, stops[-1] + 1

    def _template(self, messages: Sequence[Message], *, generation: bool = False) -> str:
        turns = [{"role": turn.role, "content": turn.content} for turn in messages]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation))

    def _leading_ids(self) -> list[int]:
        """What the tokenizer puts before every text by itself (a begin-of-text token, or nothing)."""
        plain = self._tokens("a")
        dressed = list(self.tokenizer("a", add_special_tokens=True, verbose=False)["input_ids"])
        for start in range(len(dressed) - len(plain) + 1):
            if dressed[start : start + len(plain)] == plain:
                return dressed[:start]
        return []

    def _turn_end(self) -> frozenset[int]:
        """The special token by which the chat template ends an answer (often not the tokenizer's end of text)."""
        if not self.has_template:
            return frozenset()
        asked = (Message("user", "a"), Message("assistant", "b"))
        try:
            before, after = self._template(asked[:1], generation=True), self._template(asked)
        except (TemplateError, IndexError, KeyError, TypeError):
            return frozenset()
        if not after.startswith(before):
            return frozenset()
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        ends = [token for token in self._tokens(after[len(before) :]) if token in special]
        return frozenset(ends[:1])


def _plain_conversation(messages: Sequence[Message]) -> list[_Segment]:
    segments: list[_Segment] = []
    given = ""
    for turn in messages:
        if turn.role == "assistant":
            segments += [_Segment(given + "Assistant:"), _Segment(" " + turn.content, learned=True, ends=True)]
            given = "\n"
        else:
            given += f"{_NAMES[turn.role]}: {turn.content}\n"
    return segments
