"""MiniLM L6, the bundled encoder: what was pinned, and that it knows what words mean where counting words does not."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from test_classify import tfidf_accuracy
from tiny_models import events_of, make_run, make_spec, write_rows

from app.config import Settings
from slm import run
from slm.bundled import BUNDLED, MINILM
from slm.checkpoints import load
from slm.files import file_digest
from slm.methods import METHODS
from slm.spec import DatasetKind, Method, ModelRef
from slm.weights import read_marker

pytestmark = pytest.mark.weights
KINDS = {
    "animal": ("lion tiger horse rabbit eagle shark goat wolf monkey", "walrus hamster pigeon donkey salmon leopard"),
    "food": ("bread cheese soup apple rice honey potato butter cake", "yoghurt noodles omelette pumpkin salad biscuit"),
    "vehicle": ("car train bicycle truck boat tram bus lorry plane", "ferry scooter helicopter van tractor canoe"),
    "clothing": ("coat shirt trousers hat sock glove scarf dress boot", "jumper sandal blouse jacket skirt cardigan"),
}
"""Words of the training rows, and others, of the same kinds, of the held-out rows."""
SENTENCES = ("We saw a {} today.", "My brother told me about the {}.", "Is this the {} you were looking for?")


def rows(which: int) -> list[dict[str, str]]:
    return [
        {"text": sentence.format(word), "label": kind}
        for (kind, words), sentence in itertools.product(KINDS.items(), SENTENCES)
        for word in words[which].split()
    ]


@pytest.fixture(scope="module")
def weights() -> Path:
    folder = Settings(_env_file=None).models_dir / MINILM
    if read_marker(folder) is None:
        reason = "MiniLM's weights are not on this machine; `slm pull minilm` brings them."
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return folder


def test_it_is_what_was_pinned(weights: Path) -> None:
    marker = read_marker(weights)
    assert marker is not None
    assert marker["source"] == BUNDLED[MINILM].model_dump()
    assert (marker["model_type"], marker["architectures"]) == ("bert", ["BertModel"])
    assert marker["sha256"] == file_digest(weights / "model.safetensors")


@pytest.mark.parametrize(("method", "new"), [(Method.CLASSIFY, "classifier"), (Method.MASK, "cls.predictions")])
def test_what_it_does_not_bring_is_known(weights: Path, method: Method, new: str) -> None:
    recipe = METHODS[method]
    reference = ModelRef(model_id="m", name="MiniLM", path=str(weights))
    loaded = load(reference, Path(), model_class=recipe.MODEL_CLASS)
    assert recipe.refusal(loaded.model.config) is None
    assert loaded.new
    assert all(name.startswith(new) for name in loaded.new)


@pytest.mark.slow
def test_it_labels_words_it_was_never_shown_where_counting_words_cannot(weights: Path, tmp_path: Path) -> None:
    train, held_out = rows(0), rows(1)
    kind = DatasetKind.CLASSIFICATION
    data, other = write_rows(tmp_path / "t.jsonl", train, kind), write_rows(tmp_path / "h.jsonl", held_out, kind)
    config: dict[str, Any] = {"adapter": "full", "epochs": 8, "batch_size": 8, "learning_rate": 1e-4}
    directory = make_run(tmp_path / "run", make_spec(weights, data, held_out=other, **config))
    assert run.main(directory) == run.FINISHED
    (ended,) = events_of(directory, "finished")
    card = ended["evaluation"]
    counting = tfidf_accuracy(train, held_out)
    assert counting < 0.4
    assert card["metrics"]["accuracy"] > 0.85
    assert card["metrics"]["accuracy"] > counting + 0.3
    assert "better" in card["verdict"]
