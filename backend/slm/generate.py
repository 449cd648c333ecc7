"""Continue prompts: many at a time for scoring (`generate`), one by one, word for word, for chat (`converse`).

Owns padding, stop tokens, trimming and the reuse of a prefix that all prompts share. Left padding; the caller gives
token ids (rendering is `slm.data.render`'s) and gets text. Any causal model of transformers; any device.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.generation.logits_process import LogitsProcessor, LogitsProcessorList
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from slm.wording import Wording

TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<|end_of_turn|>", "<end_of_turn>", "<|endoftext|>", "</s>")
"""Tokens that end a turn in the chat templates of common families; used where the vocabulary has them."""
BATCH_ROWS = 32
BATCH_TOKENS = 12_288
"""Rows and cached tokens held at once: each decoding step reads all weights once, however many rows wait for it, so
wide batches are nearly free until the cache fills the memory."""
SHORTEST_PREFIX = 16

Tick = Callable[[float, int], None]
"""Called after each decoded token with (prompts done, prompts in all); whatever it raises ends the generation."""
Say = Callable[[int, str], None]
"""Called with (side, new words) as an answer grows."""


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. `temperature` 0 is greedy and needs no seed."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


def stop_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> list[int]:
    """Every token id that ends an answer: the tokenizer's and the model's end, and the chat families' turn ends."""
    found: set[int] = set()
    for value in (tokenizer.eos_token_id, getattr(model.generation_config, "eos_token_id", None)):
        if isinstance(value, int):
            found.add(value)
        elif isinstance(value, Iterable):
            found.update(int(item) for item in value)
    added = tokenizer.get_added_vocab()
    found.update(added[token] for token in TURN_ENDS if token in added)
    return sorted(found)


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    tick: Tick | None = None,
) -> list[str]:
    """One answer per prompt, in the prompts' order, without stop tokens and surrounding blanks.

    Prompts of like length share a batch. An empty prompt is an error (`ValueError`): there is nothing to continue.
    """
    if any(not prompt for prompt in prompts):
        raise ValueError("A prompt without tokens cannot be continued.")
    stops = stop_ids(tokenizer, model)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (stops[0] if stops else 0)
    settings = _generation_config(sampling, stops, pad)
    if sampling.temperature > 0 and sampling.seed is not None:
        torch.manual_seed(sampling.seed)
    answers = [""] * len(prompts)
    prefix = _Prefix.of(model, prompts)
    done = 0
    for batch in _batches(prompts, sampling.max_new_tokens):
        progress = _Progress(tick, done, len(batch), len(prompts), sampling.max_new_tokens)
        tokens = _continue(model, [prompts[index] for index in batch], settings, prefix, progress)
        for index, ids in zip(batch, tokens, strict=True):
            answers[index] = tokenizer.decode(_until_stop(ids, stops), skip_special_tokens=True).strip()
        done += len(batch)
    return answers


class _Progress(StoppingCriteria):  # type: ignore[misc]
    """Says after each token how far the whole is, and never stops a row by itself."""

    def __init__(self, tick: Tick | None, done: int, rows: int, total: int, longest: int) -> None:
        self.tick, self.done, self.rows, self.total, self.longest = tick, done, rows, total, longest
        self.steps = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.Tensor:
        self.steps += 1
        if self.tick is not None:
            self.tick(self.done + self.rows * min(1.0, self.steps / self.longest), self.total)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def _batches(prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
    """Indices of prompts of like length, longest first: a batch that exhausts the memory does so at once."""
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    batches: list[list[int]] = []
    while order:
        longest = len(prompts[order[0]]) + max_new_tokens
        most = max(1, min(BATCH_ROWS, BATCH_TOKENS // longest))
        size = math.ceil(len(order) / math.ceil(len(order) / most))  # 40 rows are 20 and 20, not 32 and 8
        batches.append(order[:size])
        order = order[size:]
    return batches


@dataclass(frozen=True)
class _Prefix:
    """Tokens that every prompt begins with, read once. `cache` is None where there is nothing worth sharing."""

    ids: list[int]
    cache: DynamicCache | None

    @classmethod
    def of(cls, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> _Prefix:
        """Only for models that remember by plain attention over all tokens; exact up to rounding for those."""
        ids = _shared(prompts)
        cache = DynamicCache(config=model.config)
        if len(ids) < SHORTEST_PREFIX or any(type(layer) is not DynamicLayer for layer in cache.layers):
            return cls([], None)
        tensor = torch.tensor([ids], device=model.device)
        model(input_ids=tensor, attention_mask=torch.ones_like(tensor), past_key_values=cache, use_cache=True)
        return cls(ids, cache)

    def repeated(self, rows: int) -> dict[str, Any]:
        """The cache for so many rows, as a keyword for `model.generate`."""
        if self.cache is None:
            return {}
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(rows)
        return {"past_key_values": cache}


def _shared(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The longest common beginning that leaves each prompt at least one token of its own."""
    if len(prompts) < 2:
        return []
    first, last = min(map(list, prompts)), max(map(list, prompts))
    limit = min(map(len, prompts)) - 1
    length = 0
    while length < limit and first[length] == last[length]:
        length += 1
    return first[:length]


def _continue(
    model: PreTrainedModel,
    rows: list[Sequence[int]],
    settings: GenerationConfig,
    prefix: _Prefix,
    progress: _Progress,
) -> list[list[int]]:
    """New token ids of each row, stop and padding included. Layout: shared prefix, masked padding, own tokens."""
    shared = len(prefix.ids)
    width = max(map(len, rows))
    gaps = [width - len(row) for row in rows]
    pad = settings.pad_token_id
    ids = [[*row[:shared], *[pad] * gap, *row[shared:]] for row, gap in zip(rows, gaps, strict=True)]
    mask = [[1] * shared + [0] * gap + [1] * (width - shared - gap) for gap in gaps]
    out = model.generate(
        input_ids=torch.tensor(ids, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        generation_config=settings,
        stopping_criteria=StoppingCriteriaList([progress]),
        **prefix.repeated(len(rows)),
    )
    tokens: list[list[int]] = out[:, width:].tolist()
    return tokens


def _generation_config(sampling: Sampling, stops: list[int], pad: int) -> GenerationConfig:
    """Explicit where a model's own file might say otherwise: a repetition penalty would falsify a score."""
    common: dict[str, Any] = {
        "max_new_tokens": sampling.max_new_tokens,
        "eos_token_id": stops or None,
        "pad_token_id": pad,
        "use_cache": True,
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "num_beams": 1,
    }
    if sampling.temperature <= 0:
        return GenerationConfig(do_sample=False, **common)
    return GenerationConfig(do_sample=True, temperature=sampling.temperature, top_p=sampling.top_p, top_k=0, **common)


def _until_stop(ids: list[int], stops: list[int]) -> list[int]:
    for position, token in enumerate(ids):
        if token in stops:
            return ids[:position]
    return ids


@dataclass(frozen=True)
class Said:
    """One whole answer. `tokens` were decoded, a stop token and what a stop string cut off included."""

    text: str
    finish_reason: str
    """`stop` (a stop token, a stop string) or `length`."""
    tokens: int
    seconds: float = field(compare=False)
    """From the question to the end of this answer; others beside it may have gone on."""


@torch.inference_mode()
def converse(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Sequence[int],
    *,
    sampling: Sampling,
    stop: Sequence[str] = (),
    adapters: Sequence[str] | None = None,
    say: Say = lambda side, words: None,
    check: Callable[[], None] = lambda: None,
) -> list[Said]:
    """Answer one prompt, telling each new word; with `adapters` (PEFT's names) each of them answers, in one batch.

    Each side draws from a generator of its own, begun with the same seed: beside others or alone, it says the same.
    `check()` is called after each token; what it raises ends the answer.
    """
    if not prompt:
        raise ValueError("A prompt without tokens cannot be continued.")
    rows = len(adapters) if adapters is not None else 1
    stops = stop_ids(tokenizer, model)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (stops[0] if stops else 0)
    listener = _Listener(tokenizer, rows, frozenset(stops), stop, say, check)
    ids = torch.tensor([list(prompt)] * rows, device=model.device)
    extra: dict[str, Any] = {} if adapters is None else {"adapter_names": list(adapters)}
    if sampling.temperature > 0:
        extra["logits_processor"] = LogitsProcessorList([_Draw(sampling, rows)])
    model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        generation_config=_generation_config(Sampling(sampling.max_new_tokens), stops, pad),
        stopping_criteria=StoppingCriteriaList([listener]),
        **extra,
    )
    return listener.said()


class _Listener(StoppingCriteria):  # type: ignore[misc]
    """Hears each new token of each side, says its words, and knows which sides have ended."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        rows: int,
        stops: frozenset[int],
        stop: Sequence[str],
        say: Say,
        check: Callable[[], None],
    ) -> None:
        def decode(ids: list[int]) -> str:
            return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

        self._wordings = [Wording(decode, stop) for _ in range(rows)]
        self._tokens = [0] * rows
        self._began = time.monotonic()
        self._ended = [False] * rows
        self._seconds = [0.0] * rows
        self._stops, self._say, self._check = stops, say, check
        self._raised: Exception | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.Tensor:
        try:
            self._check()
        except Exception as error:  # noqa: BLE001 - raised again by `said`: PEFT would not take its hooks off
            self._raised = error
            return torch.ones(len(self._ended), dtype=torch.bool, device=input_ids.device)
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if not self._ended[row]:
                self._hear(row, token)
        return torch.tensor(self._ended, dtype=torch.bool, device=input_ids.device)

    def _hear(self, row: int, token: int) -> None:
        self._tokens[row] += 1
        self._seconds[row] = time.monotonic() - self._began
        wording = self._wordings[row]
        words = wording.close() if token in self._stops else wording.add(token)
        self._ended[row] = token in self._stops or wording.stopped
        if words:
            self._say(row, words)

    def said(self) -> list[Said]:
        """The whole answers. Raises what `check` raised."""
        if self._raised is not None:
            raise self._raised
        for row, wording in enumerate(self._wordings):
            if not self._ended[row] and (words := wording.close()):
                self._say(row, words)
        return [
            Said(wording.text, "stop" if ended or wording.stopped else "length", tokens, seconds)
            for wording, ended, tokens, seconds in zip(
                self._wordings, self._ended, self._tokens, self._seconds, strict=True
            )
        ]


class _Draw(LogitsProcessor):  # type: ignore[misc]
    """Draws each row's token by the Gumbel-max trick, so that greedy decoding after it is sampling.

    The noise is made on the processor: a seed gives the same draws on every device.
    """

    def __init__(self, sampling: Sampling, rows: int) -> None:
        self._sampling = sampling
        self._generators = [torch.Generator() for _ in range(rows)]
        seed = sampling.seed if sampling.seed is not None else torch.Generator().seed()
        for generator in self._generators:
            generator.manual_seed(seed)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        wanted = scores.float() / self._sampling.temperature
        if self._sampling.top_p < 1:
            wanted = _nucleus(wanted, self._sampling.top_p)
        noise = torch.stack([torch.rand(wanted.shape[-1], generator=generator) for generator in self._generators])
        return wanted - (-noise.log()).log().to(wanted.device)


def _nucleus(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Only the likeliest tokens whose chances together reach `top_p`; the likeliest always stays."""
    ordered, order = scores.sort(dim=-1, descending=True)
    before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
    ordered = ordered.masked_fill(before >= top_p, -math.inf)
    return torch.full_like(scores, -math.inf).scatter(-1, order, ordered)
