"""A preview shows what training reads: the same ids, the same labels, the same text, for every method there is."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import base_folder, events_of, make_spec, task_rows, write_rows

from slm import checkpoints, run
from slm.data.render import IGNORED
from slm.errors import RunFailure
from slm.events import EventLog
from slm.methods import METHODS
from slm.preview import BARS, cut_between, histogram, preview
from slm.spec import CAUSAL, METHOD_FACTS, DatasetKind, DatasetRef, Method, ModelRef, PreviewSpec
from slm.train import rows as training_rows

LONG = "a word that goes on and on " * 12
SAMPLES: dict[DatasetKind, list[dict[str, Any]]] = {
    DatasetKind.PROMPT_COMPLETION: [
        *task_rows(6),
        {"prompt": "Größe? 日本", "completion": "naïve 🦜 ✓"},
        {"prompt": "long answer?", "completion": LONG},
        {"prompt": LONG, "completion": "never reached"},
        {"prompt": "", "completion": "nothing was asked"},
    ],
    DatasetKind.MESSAGES: [
        {"messages": [{"role": "user", "content": "red?"}, {"role": "assistant", "content": "cat"}]},
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "one"},
                {"role": "assistant", "content": "two"},
                {"role": "user", "content": "three"},
                {"role": "assistant", "content": LONG},
            ]
        },
    ],
    DatasetKind.TEXT: [{"text": "red green blue"}, {"text": "日本 🦜"}, {"text": LONG}],
    DatasetKind.CLASSIFICATION: [{"text": f"{word} text", "label": word} for word in ("red", "blue", "red")],
    DatasetKind.PREFERENCE: [
        {"prompt": "red?", "chosen": "cat", "rejected": "dog"},
        {"prompt": "blue?", "chosen": LONG, "rejected": "no"},
    ],
}
CASES = [
    (method, kind)
    for method in METHODS
    for kind in sorted(METHOD_FACTS[method].kinds)
    if CAUSAL in METHOD_FACTS[method].bases
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("bases")
    return {name: base_folder(parent, name) for name in ("llama", "gpt2")}


def made(tmp_path: Path, base: Path, data: DatasetRef, method: Method = Method.SFT, **how: Any) -> dict[str, Any]:
    """The preview as its process leaves it."""
    model = ModelRef(model_id="base", name="Tiny", path=str(base))
    spec = PreviewSpec(run_id="p", model=model, method=method, dataset=data, **{"max_length": 64, **how})
    log = EventLog(tmp_path, attempt=1)
    try:
        preview(spec, tmp_path, log)
    finally:
        log.close()
    found: dict[str, Any] = json.loads((tmp_path / "result.json").read_bytes())
    return found


def joined(pieces: list[dict[str, Any]]) -> str:
    return "".join(piece["text"] for piece in pieces)


@pytest.mark.parametrize(("method", "kind"), CASES)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_pieces_are_the_tensors_of_a_real_batch(
    method: Method, kind: DatasetKind, architecture: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    base = folders[architecture]
    data = write_rows(tmp_path / "data.jsonl", SAMPLES[kind], kind)
    shown = made(tmp_path, base, data, method, limit=100)
    spec = make_spec(base, data, method=method.value, eval_fraction=0.0)
    recipe, tokenizer = METHODS[method], checkpoints.load_tokenizer(spec.model)
    renderer = recipe.renderer(tokenizer, max_length=spec.config.max_length)
    prepared = training_rows.prepare(spec, tmp_path, renderer, lambda _done, _total: None)
    learned = [example for example in shown["examples"] if example["dropped"] is None]
    sides = [side for row in prepared.train for side in (row, row.rejected) if side is not None]
    assert [example["line"] for example in learned] == [side.line for side in sides]
    batch = recipe.collate(prepared.train, pad_id=0)
    for at, example in enumerate(learned):
        width = int(batch["attention_mask"][at].sum())
        ids = batch["input_ids"][at, :width].tolist()
        # A method that learns a label of the whole learns none of the tokens.
        labels = batch["labels"][at, :width].tolist() if "labels" in batch else [IGNORED] * width
        assert [piece["id"] for piece in example["pieces"]] == ids
        assert [piece["learned"] for piece in example["pieces"]] == [label != IGNORED for label in labels]
        assert [label for label in labels if label != IGNORED] == [
            piece["id"] for piece in example["pieces"] if piece["learned"]
        ]
        assert joined(example["pieces"]) == tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert example["learned_tokens"] == sum(label != IGNORED for label in labels) or labels == [IGNORED] * width
    dropped = [(example["line"], example["dropped"]) for example in shown["examples"] if example["dropped"] is not None]
    assert dropped == prepared.dropped
    counts = prepared.as_fields()
    assert shown["counts"] == {
        "examples": counts["train_examples"],
        **{key: counts[key] for key in ("tokens", "learned_tokens", "truncated", "dropped")},
    }


def test_what_is_cut_goes_on_where_the_pieces_end(folders: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"prompt": "long?", "completion": "word " * 30}]
    found = made(tmp_path, folders["llama"], write_rows(tmp_path / "d.jsonl", rows), limit=1)
    example = found["examples"][0]
    assert joined(example["pieces"] + example["cut"]).endswith("assistant\n" + "word " * 30 + "<|im_end|>\n")
    assert example["cut_tokens"] == len(example["cut"]) == found["lengths"]["max"] - 64
    assert (found["counts"]["truncated"], len(example["pieces"])) == (1, 64)
    assert found["warnings"] == ["100 % of rows exceed 64 tokens; the end of the answer is lost in 1 row."]


def test_of_a_very_long_row_only_the_beginning_of_what_is_cut_is_shown(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    rows = [{"prompt": "long?", "completion": "word " * 3000}]
    example = made(tmp_path, folders["llama"], write_rows(tmp_path / "d.jsonl", rows))["examples"][0]
    assert len(example["cut"]) == 200 < example["cut_tokens"]


def test_the_window_shows_rows_of_the_file_and_counts_all(folders: dict[str, Path], tmp_path: Path) -> None:
    data = write_rows(tmp_path / "d.jsonl", task_rows(40))
    found = made(tmp_path, folders["llama"], data, limit=3, offset=10)
    assert [example["line"] for example in found["examples"]] == [11, 12, 13]
    assert (found["counts"]["examples"], found["rows_read"], found["rows_total"]) == (40, 40, 40)
    assert made(tmp_path, folders["llama"], data, limit=3, offset=100)["examples"] == []
    assert sum(bar["count"] for bar in found["lengths"]["histogram"]) == 40


def test_of_a_large_file_a_seeded_sample_is_counted_and_it_says_so(folders: dict[str, Path], tmp_path: Path) -> None:
    data = write_rows(tmp_path / "d.jsonl", task_rows(300))
    how: dict[str, Any] = {"most_rows": 50, "limit": 2, "offset": 290}
    found = made(tmp_path, folders["llama"], data, **how)
    assert (found["rows_read"], found["rows_total"], found["counts"]["examples"]) == (50, 300, 50)
    assert found["warnings"] == ["The figures are those of a sample of 50 of 300 rows."]
    assert [example["line"] for example in found["examples"]] == [291, 292]
    assert made(tmp_path, folders["llama"], data, **how) == found
    other = made(tmp_path, folders["llama"], data, **how, seed=1)
    assert other["counts"] != found["counts"] or other["lengths"] != found["lengths"]


def test_of_a_huge_file_the_sample_comes_from_its_beginning(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_rows(tmp_path / "d.jsonl", task_rows(400))
    monkeypatch.setattr("slm.preview.REACH", Path(data.path).stat().st_size // 4)
    found = made(tmp_path, folders["llama"], data, most_rows=50)
    assert "drawn from the first 9" in found["warnings"][0]
    assert found["rows_read"] == 50


def test_a_model_that_reads_less_lowers_the_limit(folders: dict[str, Path], tmp_path: Path) -> None:
    data = write_rows(tmp_path / "d.jsonl", task_rows(3))
    found = made(tmp_path, folders["gpt2"], data, max_length=4096)
    assert found["max_length"] == 256
    assert found["warnings"] == ["This model reads at most 256 tokens, so max_length is 256."]


def test_rows_without_anything_to_learn_say_why_and_that_training_would_fail(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    rows = [{"prompt": LONG, "completion": "x"}, {"prompt": "", "completion": "x"}]
    found = made(tmp_path, folders["llama"], write_rows(tmp_path / "d.jsonl", rows))
    reasons = [example["dropped"] for example in found["examples"]]
    assert reasons == ["Its prompt alone fills max_length (64 tokens).", "'prompt' is empty."]
    assert found["counts"]["dropped"] == 2
    assert found["warnings"][-1] == "Nothing is left to learn: a training on these data would fail."
    assert any("1 row cannot be learned from (the first is line 1)" in warning for warning in found["warnings"])


def test_other_data_and_absent_files_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "b"}]
    labelled = write_rows(tmp_path / "labels.jsonl", rows, DatasetKind.CLASSIFICATION)
    with pytest.raises(RunFailure, match="holds classification data, which sft cannot learn from"):
        made(tmp_path, folders["llama"], labelled)
    gone = write_rows(tmp_path / "gone.jsonl", task_rows(2))
    Path(gone.path).unlink()
    with pytest.raises(RunFailure, match="is gone"):
        made(tmp_path, folders["llama"], gone)
    with pytest.raises(RunFailure, match="not on this machine"):
        made(tmp_path, tmp_path / "nowhere", write_rows(tmp_path / "d.jsonl", task_rows(2)))


def test_it_is_a_run_like_any_other(folders: dict[str, Path], tmp_path: Path) -> None:
    data = write_rows(tmp_path / "d.jsonl", task_rows(4))
    model = ModelRef(model_id="base", name="Tiny", path=str(folders["llama"]))
    spec = PreviewSpec(run_id="p", model=model, method=Method.SFT, dataset=data, max_length=64)
    (tmp_path / "run.json").write_text(spec.model_dump_json())
    assert run.main(tmp_path) == run.FINISHED
    assert [event["rows_read"] for event in events_of(tmp_path, "finished")] == [4]


@given(st.lists(st.integers(0, 5000), max_size=60))
def test_every_length_is_in_one_bar(lengths: list[int]) -> None:
    bars = histogram(lengths)
    assert len(bars) <= BARS
    assert sum(bar["count"] for bar in bars) == len(lengths)
    for before, after in pairwise(bars):
        assert before["to"] == after["from"]
    for bar in bars:
        assert bar["count"] == sum(bar["from"] <= length < bar["to"] for length in lengths)


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(0, 20), st.booleans())
def test_what_is_missing_is_found_at_the_end_or_before_a_closing_token(
    whole: list[int], kept: int, closing: bool
) -> None:
    learned = whole[:kept] + ([9] if closing else [])
    longer = whole + ([9] if closing else [])
    start, end = cut_between(learned, longer)
    assert longer[:start] + longer[end:] == learned


def test_of_a_pair_the_longer_side_is_what_max_length_is_about(folders: dict[str, Path], tmp_path: Path) -> None:
    """Two answers of about fifty tokens fit into 64, though both together do not."""
    rows = [{"prompt": "red?", "chosen": "word " * 6, "rejected": "blue " * 9}]
    data = write_rows(tmp_path / "d.jsonl", rows, DatasetKind.PREFERENCE)
    found = made(tmp_path, folders["llama"], data, Method.DPO)
    sides = [example["tokens"] for example in found["examples"]]
    assert max(sides) < 64 < sum(sides)
    assert (found["warnings"], found["counts"]["truncated"], found["lengths"]["max"]) == ([], 0, max(sides))


def test_a_preview_that_nobody_waits_for_ends_without_an_answer(folders: dict[str, Path], tmp_path: Path) -> None:
    model = ModelRef(model_id="base", name="Tiny", path=str(folders["llama"]))
    data = write_rows(tmp_path / "d.jsonl", task_rows(4))
    spec = PreviewSpec(run_id="p", model=model, method=Method.SFT, dataset=data, max_length=64)
    (tmp_path / "run.json").write_text(spec.model_dump_json())
    (tmp_path / "cancel").write_text("{}")
    assert run.main(tmp_path) == run.CANCELLED
    assert not (tmp_path / "result.json").exists()


def test_answers_that_a_template_writes_anew_are_told(folders: dict[str, Path], tmp_path: Path) -> None:
    """As templates do that drop the thinking of earlier turns: the model never sees them so again."""
    base = tmp_path / "rewriting"
    shutil.copytree(folders["llama"], base)
    (base / "chat_template.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content if loop.last or m.role != 'assistant' else 'forgotten' }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    turns = [("user", "one?"), ("assistant", "cat"), ("user", "two?"), ("assistant", "dog")]
    rows = [{"messages": [{"role": role, "content": text} for role, text in turns]}]
    found = made(tmp_path, base, write_rows(tmp_path / "d.jsonl", rows, DatasetKind.MESSAGES))
    assert joined([piece for piece in found["examples"][0]["pieces"] if piece["learned"]]) == "dog<|im_end|>"
    assert found["warnings"] == [
        "The model's chat template rewrites earlier answers, so in 1 row only the later ones are learned."
    ]


@pytest.mark.parametrize(("long", "said"), [(1, "less than 1 %"), (3, "1 %")])
def test_a_share_is_never_rounded_to_nothing(long: int, said: str, folders: dict[str, Path], tmp_path: Path) -> None:
    rows = [*task_rows(200), *[{"prompt": f"{n}?", "completion": "word " * 60} for n in range(long)]]
    found = made(tmp_path, folders["llama"], write_rows(tmp_path / "d.jsonl", rows))
    assert found["warnings"][0].startswith(f"{said} of rows exceed 64 tokens; the end of the answer is lost in {long}")


def test_the_reasons_for_leaving_rows_out_come_commonest_first(folders: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"prompt": "", "completion": "x"}, *[{"prompt": LONG, "completion": "x"}] * 2, *task_rows(3)]
    found = made(tmp_path, folders["llama"], write_rows(tmp_path / "d.jsonl", rows))
    said = [warning for warning in found["warnings"] if "cannot be learned from" in warning]
    assert said == [
        "2 rows cannot be learned from (the first is line 2): Its prompt alone fills max_length (64 tokens).",
        "1 row cannot be learned from (the first is line 1): 'prompt' is empty.",
    ]
    assert (found["counts"]["examples"], found["counts"]["dropped"]) == (3, 3)
