"""Answers every record of a dataset: the task `predict`.

started → preparing (digest) → loading (weights) → predicting → saving → finished. The result is one file of JSON lines,
in the order of the records: each record's own fields, `line`, and `prediction` (with `scores` for a classifier) or
`fault`. Rows are read and written in windows, so that memory does not grow with the file. The file appears at the very
end by one rename: a run that is cancelled or killed leaves none.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

import torch
import transformers

from slm import checkpoints, limits
from slm.data.examples import Fault, Messages, Text
from slm.data.formats import BrokenSyntax, Record, iter_records
from slm.data.questions import Question, columns_of, to_question
from slm.data.render import Dropped, Renderer
from slm.errors import RunFailure
from slm.events import EventLog, Stop
from slm.files import file_digest
from slm.generate import Sampling, generate
from slm.methods import METHODS
from slm.spec import Method, PredictSpec
from slm.train import machine as machines
from slm.train import outcome
from slm.train.rows import verify

FILE = "predictions.jsonl"
WINDOW = 256
"""Records held at once: enough that batches of like length can be made among them."""
OWN = ("prediction", "scores", "line", "fault")
"""Fields that this adds; a record's own field of such a name is called `input_…`."""
_TOGETHER = 32
_ENDLESS = 1 << 30
Made = dict[str, Any]
"""What is added to a record: its prediction or its fault."""
Tick = Callable[[float], None]
"""Called with the number of questions done; raises to stop."""


class Answerer(Protocol):
    cut: int
    """Texts of which only a beginning was read."""

    def answer(self, questions: Sequence[Question], tick: Tick) -> list[Made]: ...


def predict(spec: PredictSpec, directory: Path, log: EventLog, stop: Stop) -> None:
    """Carry out a prediction; on return the log ends with `finished`. Raises `RunFailure`, `Cancelled`."""
    working = directory / outcome.WORKING
    shutil.rmtree(working, ignore_errors=True)
    try:
        _start(spec, log)
        stop.check()
        _enter(log, stop, "preparing")
        verify(spec.dataset, directory, _beat(log, stop, "preparing"))
        _enter(log, stop, "loading")
        answerer = _answerer(spec, directory)
        _enter(log, stop, "predicting")
        working.mkdir()
        with (working / FILE).open("w", encoding="utf-8") as file:
            counts = _write(spec, directory, answerer, file, _beat(log, stop, "predicting"))
        if answerer.cut:
            message = f"Of {answerer.cut} texts only the first {spec.max_length} tokens were read."
            log.append("warned", code="truncated", message=message)
        _enter(log, stop, "saving")
        size, digest = (working / FILE).stat().st_size, file_digest(working / FILE)
        checkpoints.publish(working, directory / outcome.ARTIFACTS)
        made = {"kind": "predictions", "path": f"{outcome.ARTIFACTS}/{FILE}", "size_bytes": size, "sha256": digest}
        log.append("finished", durable=True, artifacts=[made], result=counts.as_fields())
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _start(spec: PredictSpec, log: EventLog) -> None:
    threads = spec.threads or limits.cores()
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    device = machines.detect_device()
    versions = machines.versions()
    log.append(
        "started", resumed_from_step=None, pid=os.getpid(), versions=versions, device=device, precision="fp32",
        threads=threads,
    )  # fmt: skip


def _enter(log: EventLog, stop: Stop, phase: str) -> None:
    stop.check()
    log.append("phase", phase=phase)


def _beat(log: EventLog, stop: Stop, phase: str) -> Callable[[int, int], None]:
    def beat(done: int, total: int) -> None:
        stop.check()
        log.beat(phase, done=done, total=total)

    return beat


def _answerer(spec: PredictSpec, directory: Path) -> Answerer:
    # Whatever method taught a model to write, it is loaded and asked alike.
    recipe = METHODS[Method.CLASSIFY if spec.method is Method.CLASSIFY else Method.SFT]
    if (refusal := recipe.refusal(checkpoints.load_config(spec.model))) is not None:
        raise RunFailure("model_unsupported", refusal)
    tokenizer = checkpoints.load_tokenizer(spec.model)
    model = checkpoints.load_base(spec.model, directory, model_class=recipe.MODEL_CLASS)
    model = model.to(machines.detect_device()).eval()
    own = getattr(model.config.get_text_config(), "max_position_embeddings", None) or _ENDLESS
    if spec.method is Method.CLASSIFY:
        return Labeller(model, tokenizer, max_length=min(spec.max_length, own))
    return Writer(model, tokenizer, max_length=spec.max_length, context=own, max_new_tokens=spec.max_new_tokens)


@dataclass
class _Counts:
    rows: int = 0
    predicted: int = 0

    def as_fields(self) -> dict[str, int]:
        return {"rows": self.rows, "predicted": self.predicted, "skipped": self.rows - self.predicted}


def _write(
    spec: PredictSpec, directory: Path, answerer: Answerer, file: TextIO, beat: Callable[[int, int], None]
) -> _Counts:
    """Every record in order, with what was made of it; raises `RunFailure` where the file cannot be read."""
    counts = _Counts()
    try:
        for window in _windows(spec, directory):
            before = counts.rows
            beat(before, spec.dataset.row_count)
            made = _made(spec, window, answerer, lambda done, at=before: beat(at + int(done), spec.dataset.row_count))  # type: ignore[misc]
            for record, found in zip(window, made, strict=True):
                file.write(_line(record, found))
                counts.rows += 1
                counts.predicted += "prediction" in found
    except BrokenSyntax as error:
        raise RunFailure("data_unusable", f"Dataset '{spec.dataset.name}' cannot be read: {error}") from error
    return counts


def _windows(spec: PredictSpec, directory: Path) -> Iterator[list[Record]]:
    dataset = spec.dataset
    window: list[Record] = []
    for record in iter_records(directory / dataset.path, dataset.file_format, encoding=dataset.encoding):
        window.append(record)
        if len(window) == WINDOW:
            yield window
            window = []
    if window:
        yield window


def _made(spec: PredictSpec, window: list[Record], answerer: Answerer, tick: Tick) -> list[Made]:
    kind = spec.dataset.kind
    if kind is None:
        raise RunFailure("data_unusable", f"Which column of '{spec.dataset.name}' is asked is not known.")
    mapping = columns_of(kind, spec.dataset.mapping)
    found: list[Question | Fault] = [
        Fault(None, record.fault)
        if record.fault is not None
        else to_question(record.values, kind=kind, mapping=mapping)
        for record in window
    ]
    answered = iter(answerer.answer([asked for asked in found if not isinstance(asked, Fault)], tick))
    return [{"fault": asked.message} if isinstance(asked, Fault) else next(answered) for asked in found]


def _line(record: Record, made: Made) -> str:
    own = {f"input_{name}" if name in OWN else name: value for name, value in record.values.items()}
    return json.dumps({**own, "line": record.line, **made}, ensure_ascii=False, allow_nan=False) + "\n"


@dataclass
class Writer:
    """Answers in words, greedily, and many at a time: as scorecards are made."""

    model: Any
    tokenizer: Any
    max_length: int
    context: int
    max_new_tokens: int
    cut: int = 0
    _renderer: Renderer = field(init=False)

    def __post_init__(self) -> None:
        self._renderer = Renderer(self.tokenizer, max_length=_ENDLESS)

    def answer(self, questions: Sequence[Question], tick: Tick) -> list[Made]:
        prompts = [self._prompt(asked) for asked in questions]
        together = [at for at, ids in enumerate(prompts) if isinstance(ids, list) and self._room(ids) is None]
        made: dict[int, Made] = {}
        texts = self._say([prompts[at] for at in together], self.max_new_tokens, tick)
        made.update((at, {"prediction": text}) for at, text in zip(together, texts, strict=True))
        for at, ids in enumerate(prompts):
            if isinstance(ids, str):
                made[at] = {"fault": ids}
            elif at not in made:
                room = self._room(ids) or 1
                made[at] = {"prediction": self._say([ids], room, lambda done, at=at: tick(at + done))[0]}  # type: ignore[misc]
        return [made[at] for at in range(len(questions))]

    def _room(self, ids: list[int]) -> int | None:
        """How many tokens fit behind the prompt, or None where all that may be wanted do."""
        room = self.context - len(ids)
        return room if room < self.max_new_tokens else None

    def _say(self, prompts: Sequence[Any], longest: int, tick: Tick) -> list[str]:
        if not prompts:
            return []
        sampling = Sampling(longest)
        return generate(self.model, self.tokenizer, prompts, sampling=sampling, tick=lambda done, total: tick(done))

    def _prompt(self, asked: Question) -> list[int] | str:
        """The prompt's tokens, or why it cannot be answered."""
        if isinstance(asked, Text):
            ids = list(self.tokenizer(asked.text, verbose=False)["input_ids"])
            ids = ids[:-1] if ids and ids[-1] == self.tokenizer.eos_token_id else ids
        else:
            rendered = self._renderer.render(asked, 1)
            if isinstance(rendered, Dropped):
                return rendered.reason
            ids = rendered.prompt_ids
        longest = min(self.max_length, self.context - 1)
        if not ids:
            return "It holds nothing that the model's tokenizer knows."
        if len(ids) > longest:
            return f"It is {len(ids)} tokens long; at most {longest} are read."
        return ids


@dataclass
class Labeller:
    """Gives each text one of the model's labels, and the chance of every label."""

    model: Any
    tokenizer: Any
    max_length: int
    cut: int = 0

    def answer(self, questions: Sequence[Question], tick: Tick) -> list[Made]:
        read = [self._read(asked) for asked in questions]
        order = sorted((at for at, ids in enumerate(read) if ids), key=lambda at: -len(read[at]))
        made: list[Made] = [{"fault": "It holds nothing that the model's tokenizer knows."} for _ in questions]
        for start in range(0, len(order), _TOGETHER):
            chosen = order[start : start + _TOGETHER]
            tick(start)
            for at, found in zip(chosen, self._labels([read[at] for at in chosen]), strict=True):
                made[at] = found
        return made

    def _read(self, asked: Question) -> list[int]:
        if isinstance(asked, Messages):
            raise RunFailure("data_unusable", "A classifier reads texts; these data hold conversations.")
        text = asked.text if isinstance(asked, Text) else asked.prompt
        if not self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]:
            return []
        whole = self.tokenizer(text, truncation=True, max_length=self.max_length + 1, verbose=False)["input_ids"]
        if len(whole) <= self.max_length:
            return list(whole)
        self.cut += 1
        return list(self.tokenizer(text, truncation=True, max_length=self.max_length, verbose=False)["input_ids"])

    @torch.inference_mode()
    def _labels(self, rows: list[list[int]]) -> list[Made]:
        pad = self.model.config.pad_token_id
        if pad is None:
            return [found for row in rows for found in self._scored([row], 0)]
        return self._scored(rows, pad)

    def _scored(self, rows: list[list[int]], pad: int) -> list[Made]:
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=self.model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self.model.device)
        chances = self.model(input_ids=ids, attention_mask=mask).logits.float().softmax(dim=-1).tolist()
        names = self.model.config.id2label
        made: list[Made] = []
        for row in chances:
            scores = {str(names[number]): round(chance, 6) for number, chance in enumerate(row)}
            made.append({"prediction": max(scores, key=scores.__getitem__), "scores": scores})
        return made
