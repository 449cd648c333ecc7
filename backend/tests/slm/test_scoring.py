"""The task `evaluate`: any model on any rows, with the same scorecard as after a training, or without a trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import base_folder, events_of, make_run, make_spec, task_rows, taught_folder, write_rows

from slm import run
from slm.events import CANCEL
from slm.spec import DatasetKind, DatasetRef, EvaluateSpec, Method, ModelRef, Scoring

SCORING = Scoring(max_length=64, generate_max_rows=8, max_new_tokens=12)
Made = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """A base that knows another task, and what came of it: an adapter, whole weights; with their scorecards."""
    folder = tmp_path_factory.mktemp("trained")
    base = taught_folder(folder, "llama")
    data = write_rows(folder / "train.jsonl", task_rows(80))
    held_out = write_rows(folder / "held-out.jsonl", task_rows(110)[80:])
    found: dict[str, Made] = {"base": (base, {})}
    for adapter, rate in (("lora", 4e-3), ("full", 2e-3)):
        spec = make_spec(
            base, data, held_out=held_out, adapter=adapter, epochs=3, learning_rate=rate, generate_max_rows=8,
            max_new_tokens=12, early_stopping_patience=None,
        )  # fmt: skip
        directory = make_run(folder / f"run-{adapter}", spec)
        assert run.main(directory) == run.FINISHED
        (ended,) = events_of(directory, "finished")
        kind = "adapter" if adapter == "lora" else "model"
        found[adapter] = (directory / "artifacts" / kind, ended["evaluation"])
    return found


def reference(trained: dict[str, Made], which: str) -> ModelRef:
    base = str(trained["base"][0])
    if which == "lora":
        return ModelRef(model_id=which, name="Tuned", path=base, adapters=(str(trained["lora"][0]),))
    return ModelRef(model_id=which, name="Tuned", path=str(trained[which][0]))


@pytest.fixture
def score(tmp_path: Path, trained: dict[str, Made]) -> Callable[..., tuple[Path, list[dict[str, Any]]]]:
    """Runs an evaluation in this process; returns its directory and events."""

    def score(
        which: str = "lora",
        rows: list[dict[str, Any]] | None = None,
        *,
        learned: list[dict[str, Any]] | None = None,
        code: int = run.FINISHED,
        kind: DatasetKind = DatasetKind.PROMPT_COMPLETION,
        prepare: Callable[[Path], None] = lambda directory: None,
        **changes: Any,
    ) -> tuple[Path, list[dict[str, Any]]]:
        data = write_rows(tmp_path / "rows.jsonl", task_rows(110)[80:] if rows is None else rows, kind)
        train: DatasetRef | None = write_rows(tmp_path / "learned.jsonl", learned) if learned is not None else None
        spec = EvaluateSpec(
            run_id="run", attempt=1, model=reference(trained, which), method=Method.SFT, dataset=data, train=train,
            base=reference(trained, "base") if which != "base" else None, scoring=SCORING, threads=1,
        )  # fmt: skip
        directory = tmp_path / "run"
        directory.mkdir()
        (directory / "run.json").write_text(spec.model_copy(update=changes).model_dump_json())
        prepare(directory)
        assert run.main(directory) == code, (directory / "events.jsonl").read_text()
        return directory, events_of(directory)

    return score


def last(events: list[dict[str, Any]]) -> dict[str, Any]:
    return next(event for event in reversed(events) if event.get("seq"))


@pytest.mark.parametrize("which", ["lora", "full"])
def test_it_finds_what_the_training_found(score: Callable[..., Any], trained: dict[str, Made], which: str) -> None:
    directory, events = score(which, learned=task_rows(80))
    card, before = last(events)["evaluation"], trained[which][1]
    for side in ("metrics", "base_metrics"):
        assert card[side] == pytest.approx(before[side], abs=1e-4), side
    assert card["baselines"]["few_shot"]["metrics"] == before["baselines"]["few_shot"]["metrics"]
    assert card["overlap"] == before["overlap"]
    assert card["verdict"].split(":")[0] == before["verdict"].split(":")[0]
    listed = {entry["kind"]: entry["path"] for entry in last(events)["artifacts"]}
    assert set(listed) == {"samples", "evaluation"}
    samples = [json.loads(line) for line in (directory / listed["samples"]).read_text().splitlines()]
    assert len(samples) == 8
    assert json.loads((directory / listed["evaluation"]).read_text())["verdict"] == card["verdict"]


def test_a_base_by_itself_is_measured(score: Callable[..., Any]) -> None:
    _, events = score("base")
    card = last(events)["evaluation"]
    assert card["base_metrics"] == {}
    assert set(card["intervals"]["loss"]) == {"tuned"}
    assert (card["baselines"], card["overlap"]) == ({}, None)
    assert card["verdict"].startswith("The model by itself: token F1 ")


def test_phases_and_life_show(score: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slm.events.BEAT_INTERVAL", 0)  # a fast machine is done before the next beat is due
    _, events = score(rows=[*task_rows(10), {"prompt": "", "completion": "x"}])
    assert [event["phase"] for event in events if event["type"] == "phase"] == [
        "preparing", "loading", "evaluating", "saving"
    ]  # fmt: skip
    beats = [event for event in events if event.get("total") and event.get("phase") == "evaluating"]
    assert beats
    assert all(0 <= beat["done"] <= beat["total"] for beat in beats)
    (warned,) = [event["message"] for event in events if event["type"] == "warned"]
    assert warned == "1 of 11 rows cannot be scored."


def cancel(directory: Path) -> None:
    (directory / CANCEL).write_text("{}")


def test_a_cancelled_one_leaves_no_file(score: Callable[..., Any]) -> None:
    directory, events = score(code=run.CANCELLED, prepare=cancel)
    assert last(events)["type"] == "cancelled"
    assert {path.name for path in directory.iterdir()} <= {"run.json", "events.jsonl", "run.lock", CANCEL}


def test_rows_that_cannot_be_scored_fail_as_the_users_fault(score: Callable[..., Any]) -> None:
    directory, events = score(rows=[{"prompt": "a " * 200, "completion": "b"}], code=run.FAILED)
    failure = last(events)
    assert (failure["code"], failure["fault"]) == ("data_unusable", "user")
    assert "None of the rows of 'rows' can be scored by sft." in failure["message"]
    assert not (directory / "artifacts").exists()


def test_training_data_that_are_gone_cost_the_overlap_alone(score: Callable[..., Any], tmp_path: Path) -> None:
    gone = write_rows(tmp_path / "gone.jsonl", task_rows(3))
    Path(gone.path).unlink()
    _, events = score(train=gone)
    card = last(events)["evaluation"]
    assert (card["overlap"], card["baselines"]) == (None, {})
    warned = {event["code"]: event["message"] for event in events if event["type"] == "warned"}
    assert warned["no_overlap"].startswith("The file of dataset 'gone' is gone.")


def test_text_gets_its_unigram_baseline(score: Callable[..., Any], trained: dict[str, Made], tmp_path: Path) -> None:
    rows = [{"text": f"the {name} cat"} for name in ("red", "blue", "green")] * 4
    learned = write_rows(tmp_path / "texts.jsonl", rows, DatasetKind.TEXT)
    _, events = score(rows=rows, kind=DatasetKind.TEXT, train=learned)
    card = last(events)["evaluation"]
    assert set(card["baselines"]["unigram"]["metrics"]) == {"loss", "perplexity"}
    assert card["verdict"].startswith("Memory was measured, not learning")


def test_a_strange_architecture_is_refused_in_words(score: Callable[..., Any], tmp_path: Path) -> None:
    folder = base_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["BertModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    model = ModelRef(model_id="m", name="Odd", path=str(folder))
    _, events = score(model=model, code=run.FAILED)
    assert last(events)["code"] == "model_unsupported"
