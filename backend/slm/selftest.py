"""Whether an exported model is still the same model: it is loaded from the disk by what a user would load it with,
reads the same tokens as the original (teacher-forced), and is compared at each position.

`observe` looks at any loaded `transformers` model, `ask_llama_cpp` at a GGUF file through llama.cpp itself where
`xllamacpp` is installed. Rows come from a dataset where there is one, else a few sentences stand in.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from slm.data.batches import held_out_lines, parted, split_held_out
from slm.data.examples import (
    Classification,
    Example,
    Fault,
    Message,
    Messages,
    Preference,
    Text,
    iter_examples,
)
from slm.data.formats import BrokenSyntax
from slm.data.kinds import REQUIRED
from slm.data.render import IGNORED, Dropped, Rendered, Renderer
from slm.errors import RunFailure
from slm.files import Beat
from slm.generate import Sampling, generate, stop_ids
from slm.methods import METHODS
from slm.overlap import Numbered
from slm.spec import DatasetRef, HeldOut, Method

SENTENCES = (
    "The quick brown fox jumps over the lazy dog, and 12 of its 345 friends watch.",
    "def add(a, b):\n    return a + b  # 'tis simple\n",
    "Ärger mit Größen: 3,5 µm sind ½ · 7 µm. 日本語のテキスト 🙂",
    '{"name": "Ada", "year": 1815, "tags": ["maths", "first"]}',
)
"""What is cut into tokens: digits, white space, accents, other scripts."""
PROSE = (
    "Water boils at one hundred degrees Celsius at sea level, but in the mountains it boils sooner, because the air "
    "above presses less on it.",
    "Our meeting is on Monday at 9:30. Please bring the report, the list of open questions and a pen.",
    "Once upon a time there was a little girl who lived with her grandmother in a small house near the forest. Every "
    "morning she went to the river to fetch water.",
    "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n    return total",
    "The capital of France is Paris. The capital of Germany is Berlin. The capital of Italy is Rome.",
)
"""What is read on where there are no rows."""
TIE = 0.1
"""Logits: where the original prefers its first token by less, it hardly knows itself, and rounding decides."""
_RECORDS, _ROWS, _TOKENS, _POSITIONS = 20_000, 32, 256, 512
"""Records read, rows of them compared, tokens of a row that are read, positions compared in all."""
_WHOLE = 1 << 30
_NUMBERS = 24_000_000
"""Logits kept at once of one model (100 MB): with a large vocabulary fewer positions are compared."""
_LLAMA_CPP_POSITIONS = 320
_ANSWERS, _ANSWER_TOKENS = 2, 16
_CONVERSATION = (Message("user", "Who wrote it?"), Message("assistant", "Ada."), Message("user", " When?\n"))


@dataclass(frozen=True)
class Probe:
    """A row as tokens, and the positions whose prediction of the next token is compared."""

    ids: list[int]
    positions: list[int]
    prompt: list[int]


@dataclass
class Observation:
    """What a model says to the probes; on the processor, in 32-bit floats."""

    logits: list[torch.Tensor] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    template: str | None = None
    conversation: str | None = None
    """A short one as the chat template writes it."""
    stops: list[int] = field(default_factory=list)
    words: list[list[int]] = field(default_factory=list)
    """Tokens of `SENTENCES`."""

    def tops(self) -> list[tuple[int, bool]]:
        """At each position the most likely token, and whether it is preferred by so little that it is a tie."""
        found = []
        for logits in self.logits:
            best = logits.topk(min(2, logits.shape[-1]), dim=-1)
            gaps = best.values[:, 0] - best.values[:, -1]
            found += [(int(top), bool(gap < TIE)) for top, gap in zip(best.indices[:, 0], gaps, strict=True)]
        return found


@dataclass(frozen=True)
class Verdict:
    """How one loader's model compares with the original. None where the loader does not tell.

    `same` of `checked` top tokens are the original's; `ties` are further positions, of which `same_ties` are.
    """

    loader: str
    checked: int
    same: int
    ties: int
    same_ties: int
    max_logit_difference: float | None
    same_text: bool | None
    template_equal: bool
    stop_tokens_equal: bool
    tokens_equal: bool

    @classmethod
    def of(cls, loader: str, original: Sequence[tuple[int, bool]], tops: Sequence[int], **others: Any) -> Verdict:
        pairs = [(top == theirs, tie) for (top, tie), theirs in zip(original, tops, strict=True)]
        decided, tied = [same for same, tie in pairs if not tie], [same for same, tie in pairs if tie]
        return cls(loader, len(decided), sum(decided), len(tied), sum(tied), **others)

    @property
    def same_top_token(self) -> float:
        """Share of the positions at which the original decides; all of none."""
        return self.same / self.checked if self.checked else 1.0

    def fault(self, *, least: float) -> str | None:
        """Why the export cannot be used, or None; at least a share of `least` of the top tokens must be the same."""
        if not self.tokens_equal:
            return "it cuts text into other tokens"
        if not self.template_equal:
            return "its chat template writes other text"
        if not self.stop_tokens_equal:
            return "it stops at other tokens"
        if self.same_top_token < least:
            return f"only {self.same} of {self.checked} top tokens are the same ({least:.0%} are needed)"
        return None

    def as_figures(self) -> dict[str, Any]:
        every = self.checked + self.ties
        return {
            "checked": self.checked,
            "same_top_token": round(self.same_top_token, 4),
            "ties": self.ties,
            "same_with_ties": round((self.same + self.same_ties) / every, 4) if every else 1.0,
            "max_logit_difference": self.max_logit_difference,
        }


def figures(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The self-test as the wire shows it: of each figure the worst over all loaders."""
    differences = [found.max_logit_difference for found in verdicts if found.max_logit_difference is not None]
    return {
        "checked": min(found.checked for found in verdicts),
        "max_logit_difference": max(differences) if differences else None,
        "same_text": all(found.same_text is not False for found in verdicts),
        "same_top_token": min(round(found.same_top_token, 4) for found in verdicts),
        "loaders": [found.loader for found in verdicts],
        "template_equal": all(found.template_equal for found in verdicts),
        "stop_tokens_equal": all(found.stop_tokens_equal for found in verdicts),
        "by_loader": {found.loader: found.as_figures() for found in verdicts},
    }


# -- rows


def probes(
    tokenizer: Any, reference: DatasetRef | None, held_out: HeldOut | None, directory: Path, *, causal: bool, beat: Beat
) -> list[Probe]:
    """Rows of the dataset, of those that a training held out the same ones; without any, the built-in sentences.

    Raises `RunFailure` where the tokenizer cannot end a text or the file cannot be read.
    """
    if causal:
        render = partial(_render, Renderer(tokenizer, max_length=_TOKENS))
    else:
        render = partial(_render_whole, tokenizer, max_length=_TOKENS)
    rows: list[Rendered] = []
    if reference is not None and held_out is not None:
        rows = _held_out(tokenizer, held_out, list(_examples(reference, directory, beat)))
    elif reference is not None:
        found = (render(example) for _, example in _examples(reference, directory, beat))
        rows = [row for row in found if row is not None]
    if not rows:
        rows = [row for sentence in PROSE if (row := render(Text(sentence))) is not None]
    return [_probe(row, causal=causal) for row in rows[:_ROWS]]


def _held_out(tokenizer: Any, asked: HeldOut, examples: Sequence[Numbered]) -> list[Rendered]:
    """The rows that the training set aside: read as it read them, split as it split them."""
    length = _WHOLE if asked.packing else asked.max_length
    renderer = METHODS[asked.method or Method.SFT].renderer(tokenizer, max_length=length)
    found = (renderer.render(example, line) for line, example in examples)
    rows = [row for row in found if isinstance(row, Rendered)]
    fraction, seed = asked.fraction, asked.seed
    if asked.from_scratch:
        texts = [(line, example.text) for line, example in examples if isinstance(example, Text)]
        width = None if asked.packing else length - 1
        return parted(rows, held_out_lines(texts, fraction=fraction, seed=seed, width=width))[1]
    return split_held_out(rows, fraction=fraction, seed=seed, stratified=renderer.stratified)[1]


def _examples(reference: DatasetRef, directory: Path, beat: Beat) -> Iterator[Numbered]:
    if reference.kind is None:
        return
    records = iter_examples(
        directory / reference.path,
        reference.file_format,
        kind=reference.kind,
        mapping=reference.mapping or {role: role for role in REQUIRED[reference.kind]},
        encoding=reference.encoding,
    )
    try:
        for number, (record, example) in enumerate(islice(records, _RECORDS)):
            beat(number, min(reference.row_count, _RECORDS))
            if not isinstance(example, Fault):
                yield record.line, example
    except (OSError, BrokenSyntax) as error:
        raise RunFailure("data_missing", f"The dataset '{reference.name}' cannot be read: {error}") from None


def _render(renderer: Renderer, example: Example) -> Rendered | None:
    """The example as a model that continues text reads it: of a preference the better answer, of a label the text."""
    if isinstance(example, Classification):
        example = Text(example.text)
    elif isinstance(example, Preference):
        example = Messages((*example.prompt, Message("assistant", example.chosen)))
    rendered = renderer.render(example, 0)
    return None if isinstance(rendered, Dropped) else rendered


def _render_whole(tokenizer: Any, example: Example, *, max_length: int) -> Rendered | None:
    """The example as a model that looks at a whole text reads it."""
    turns = example.messages if isinstance(example, Messages) else ()
    text = " ".join(turn.content for turn in turns) or getattr(example, "text", "") or getattr(example, "prompt", "")
    ids = list(tokenizer(str(text), truncation=True, max_length=max_length)["input_ids"])
    return Rendered(0, ids, ids, [], None, truncated=False) if ids else None


def _probe(row: Rendered, *, causal: bool) -> Probe:
    """Compared is what predicts learned tokens; where none is near enough, every position."""
    ids = row.input_ids[:_TOKENS]
    if not causal:
        return Probe(ids, list(range(len(ids))), [])
    learned = [at - 1 for at, label in enumerate(row.labels[:_TOKENS]) if at and label != IGNORED]
    positions = learned or list(range(len(ids) - 1))
    return Probe(ids[: positions[-1] + 1], positions, row.prompt_ids[-_TOKENS:])


def within(probes: Sequence[Probe], vocabulary: int) -> list[Probe]:
    """The first probes whose positions are few enough to keep what a model with so many words says there."""
    room, kept = min(_POSITIONS, max(1, _NUMBERS // vocabulary)), []
    for probe in probes:
        if room > 0:
            kept.append(Probe(probe.ids, probe.positions[:room], probe.prompt))
            room -= len(probe.positions)
    return kept


# -- looking at a model


@torch.inference_mode()
def observe(model: Any, tokenizer: Any, probes: Sequence[Probe], beat: Beat) -> Observation:
    """What the model says to each probe. `beat(done, total)` counts probes."""
    model.eval()
    seen = Observation(template=tokenizer.chat_template, conversation=write_conversation(tokenizer))
    for done, probe in enumerate(probes):
        beat(done, len(probes))
        said = model(input_ids=torch.tensor([probe.ids], device=model.device))
        logits = said.logits if hasattr(said, "logits") else said.last_hidden_state
        chosen = logits[0, probe.positions] if logits.ndim == 3 else logits
        seen.logits.append(chosen.float().cpu())
    seen.words = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in SENTENCES]
    if model.can_generate():
        seen.stops = stop_ids(tokenizer, model)
        asked = [probe.prompt or probe.ids[:8] for probe in probes[:_ANSWERS]]
        seen.texts = generate(model, tokenizer, asked, sampling=Sampling(max_new_tokens=_ANSWER_TOKENS))
    return seen


def write_conversation(tokenizer: Any) -> str | None:
    """A short conversation as the chat template writes it; None without a template."""
    if not tokenizer.chat_template:
        return None
    turns = [{"role": turn.role, "content": turn.content} for turn in _CONVERSATION]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def compare(loader: str, original: Observation, reloaded: Observation) -> Verdict:
    pairs = zip(original.logits, reloaded.logits, strict=True)
    return Verdict.of(
        loader,
        original.tops(),
        [top for top, _ in reloaded.tops()],
        max_logit_difference=max((float((ours - theirs).abs().max()) for ours, theirs in pairs), default=0.0),
        same_text=original.texts == reloaded.texts,
        template_equal=original.template == reloaded.template and original.conversation == reloaded.conversation,
        stop_tokens_equal=original.stops == reloaded.stops,
        tokens_equal=original.words == reloaded.words,
    )


# -- llama.cpp


def has_llama_cpp() -> bool:
    return find_spec("xllamacpp") is not None


def ask_llama_cpp(
    path: Path, original: Observation, probes: Sequence[Probe], *, end: str, threads: int, beat: Beat
) -> Verdict:
    """The same questions to llama.cpp: top tokens position by position, the template, how text is cut.

    `end` is the text of the end token. Raises `RunFailure` (export_differs) where llama.cpp does not load the file.
    """
    server = _LlamaCpp(path, context=max(len(probe.ids) for probe in probes) + 8, threads=threads)
    asked = [probe.ids[: position + 1] for probe in probes for position in probe.positions][:_LLAMA_CPP_POSITIONS]
    tops = []
    for done, ids in enumerate(asked):
        beat(done, len(asked))
        tops.append(server.top_token(ids))
    return Verdict.of(
        "xllamacpp",
        original.tops()[: len(asked)],
        tops,
        max_logit_difference=None,
        same_text=None,
        template_equal=original.template is None or server.conversation() == original.conversation,
        stop_tokens_equal=server.end() == end,
        tokens_equal=[server.tokens(text) for text in SENTENCES] == original.words,
    )


class _LlamaCpp:
    """llama.cpp's own server in this process, behind a port of the loopback that only we know."""

    def __init__(self, path: Path, *, context: int, threads: int) -> None:
        import xllamacpp

        wanted = xllamacpp.CommonParams()
        wanted.model.path = str(path)
        wanted.n_ctx, wanted.n_parallel, wanted.n_gpu_layers = context, 1, 0
        wanted.warmup = wanted.fit_params = False
        # What is judged is the file, not a cache in 16 bits: with that, a file in F16 differed at 1 of 150 positions,
        # with 32 bits at none.
        wanted.cache_type_k = wanted.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        wanted.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        wanted.use_jinja, wanted.port, wanted.verbosity = True, 0, 0
        wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = threads
        try:
            self._server = xllamacpp.Server(wanted)
        except RuntimeError as error:
            raise RunFailure("export_differs", f"llama.cpp does not load the exported file: {error}") from None

    def top_token(self, ids: Sequence[int]) -> int:
        body = {"prompt": list(ids), "n_predict": 1, "temperature": 0, "cache_prompt": True, "return_tokens": True}
        return int(self._ask("/completion", body)["tokens"][0])

    def tokens(self, text: str) -> list[int]:
        return list(self._ask("/tokenize", {"content": text, "add_special": False, "parse_special": True})["tokens"])

    def conversation(self) -> str:
        turns = [{"role": turn.role, "content": turn.content} for turn in _CONVERSATION]
        return str(self._ask("/apply-template", {"messages": turns})["prompt"])

    def end(self) -> str:
        return str(self._ask("/props", None)["eos_token"])

    def _ask(self, path: str, body: dict[str, Any] | None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - our own server on the loopback
            self._server.listening_address + path, data=content, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 - the same
            return json.loads(answer.read())
