"""Rows as a run knows them: chains of adapters, what is missing of them and how to get it, what needs no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.config import Settings
from app.database import Database
from app.errors import SpecRejected
from app.migrations import upgrade
from app.models import Model
from app.services import references
from slm.spec import WEIGHTS_MARKER, Method, ModelRef, resolve

SCRATCH, _ = resolve({"method": "pretrain", "from_scratch": True})
PLAIN, _ = resolve({"method": "pretrain"})
Make = Callable[..., Model]


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    upgrade(settings.database_url)
    opened = Database(settings.database_url)
    yield opened
    opened.close()


@pytest.fixture
def make(database: Database, settings: Settings) -> Make:
    """A model row, and its weights where they are to be here."""

    def make(
        name: str, *, base: Model | None = None, kept: str = "adapter", here: bool = True, **changes: Any
    ) -> Model:
        folder = name if base is None else f"artifacts/{name}/{kept}"
        row = Model(
            name=name, model_type="base" if base is None else "fine_tuned", architecture="transformer",
            parameters_count=1, base_model_id=base.id if base else None, weights_folder=folder,
            weights_format="model" if base is None else kept,
        )  # fmt: skip
        for key, value in changes.items():
            setattr(row, key, value)
        if here:
            path = (settings.models_dir if base is None else settings.data_dir) / folder
            path.mkdir(parents=True)
            (path / WEIGHTS_MARKER).write_text("{}")

        def insert(session: Any) -> Model:
            session.add(row)
            session.flush()
            return row

        return database.write(insert)

    return make


@pytest.fixture
def missing(database: Database, settings: Settings) -> Callable[[Model], str | None]:
    def missing(model: Model) -> str | None:
        with database.read() as session:
            return references.missing_weights(session, model, settings)

    return missing


def reference(database: Database, settings: Settings, model: Model) -> ModelRef:
    with database.read() as session:
        return references.model_reference(session, model, settings)


def test_adapters_stand_oldest_first_upon_the_whole_weights(
    database: Database, settings: Settings, make: Make, missing: Callable[[Model], str | None]
) -> None:
    """A model trained in full begins a chain of its own: what it was made from is in it already."""
    base = make("base")
    first = make("first", base=base)
    second = make("second", base=first, details={"training_config": {"method": "dpo"}})
    data, found = settings.data_dir.resolve(), reference(database, settings, second)
    assert found.path == str(settings.models_dir.resolve() / "base")
    assert found.adapters == (f"{data}/artifacts/first/adapter", f"{data}/artifacts/second/adapter")
    assert (found.name, found.method, found.model_type) == ("second", Method.DPO, None)
    whole = make("whole", base=second, kept="model")
    upon = make("upon", base=whole)
    found = reference(database, settings, upon)
    assert (found.path, found.adapters) == (f"{data}/artifacts/whole/model", (f"{data}/artifacts/upon/adapter",))
    assert [missing(model) for model in (base, second, whole, upon)] == [None] * 4


def test_any_link_that_is_missing_is_named_with_the_remedy(make: Make, missing: Callable[[Model], str | None]) -> None:
    absent = make("absent", here=False)
    tuned = make("tuned", base=absent)
    remedy = f"the weights of 'absent' are not on this machine; get them with POST /models/{absent.id}/pull (slm pull)."
    assert missing(absent) == missing(tuned) == remedy
    lost = make("lost", base=make("base"), here=False)
    assert missing(make("upon", base=lost)) == "the files of 'lost' are gone from the data folder."
    simulated = make("made up", base=make("another"), simulated=True)
    assert missing(make("on air", base=simulated)) == "'made up' came from a simulation and has no weights."
    # Whole weights need nothing of what they were once made from.
    assert missing(make("whole", base=absent, kept="model")) is None


def test_a_folder_without_its_marker_is_no_base(settings: Settings, make: Make, missing: Any) -> None:
    """A pull that was broken off left files, but never said that they are whole."""
    base = make("half")
    (settings.models_dir / "half" / WEIGHTS_MARKER).unlink()
    assert "the weights of 'half' are not on this machine" in missing(base)


def test_a_model_without_weights_of_its_own_is_refused(database: Database, settings: Settings, make: Make) -> None:
    hollow = make("hollow", here=False, weights_folder=None)
    with pytest.raises(SpecRejected, match="base_model_id: the model has no weights"):
        reference(database, settings, hollow)


@pytest.mark.parametrize(
    ("details", "kind"),
    [
        ({"family": "gpt2"}, "gpt2"),
        ({"weights_detail": {"model_type": "llama"}, "family": "other"}, "llama"),
        ({}, None),
        (None, None),
    ],
)
def test_from_scratch_only_the_architecture_has_to_be_known(
    database: Database, settings: Settings, make: Make, details: Any, kind: str | None
) -> None:
    base = make("base", here=False, details=details)
    with database.read() as session:
        start, why = references.ground(session, base, SCRATCH, settings)
        assert (start.model_type if start else None) == kind
        assert ("not on this machine" in why) == (kind is None)
        start, why = references.ground(session, base, PLAIN, settings)
        assert (start, "not on this machine" in why) == (None, True)


def test_where_the_weights_are_here_their_own_configuration_counts(
    database: Database, settings: Settings, make: Make
) -> None:
    """A folder that nobody described, and a tuned model, are begun from as they lie there."""
    base = make("base")
    tuned = make("tuned", base=base, details={"family": "gpt2"})
    with database.read() as session:
        for model in (base, tuned):
            for config in (PLAIN, SCRATCH):
                start, why = references.ground(session, model, config, settings)
                assert start is not None
                assert (start.model_type, why) == (None, "")


def test_an_encoder_is_one_by_what_is_known_of_it() -> None:
    assert references.base_kind(Model(details={"task": "encoder"})) == "encoder"
    assert references.base_kind(Model(details={})) == references.base_kind(Model()) == "causal"
    assert references.method_of(Model(details={"training_config": {"method": "mask"}})) is Method.MASK
    assert references.method_of(Model(details={"training_config": None})) is None
