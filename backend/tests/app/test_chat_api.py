"""What may be asked of which model: every refusal that needs no weights, and the shape of a question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.database import Database
from app.models import Model, Run
from app.models.columns import new_id, utcnow
from app.services import generation, references
from slm.spec import WEIGHTS_MARKER, Method

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


def named(client: TestClient, name: str) -> str:
    return str(next(row["id"] for row in client.get("/models").json() if row["name"] == name))


def test_weights_that_are_not_here_are_told_with_the_remedy(client: TestClient) -> None:
    model = named(client, "GPT-2 Small")
    answer = client.post(f"/models/{model}/chat", json=HELLO)
    assert answer.status_code == 409
    assert answer.json()["code"] == "weights_missing"
    assert f"POST /models/{model}/pull" in answer.json()["detail"]


def test_an_encoder_is_sent_to_predictions(client: TestClient) -> None:
    model = named(client, "BERT Base")
    answer = client.post(f"/models/{model}/chat", json=HELLO)
    assert answer.status_code == 409
    assert answer.json()["code"] == "not_a_writer"
    assert f"/models/{model}/predictions" in answer.json()["detail"]


def test_an_unknown_model(client: TestClient) -> None:
    answer = client.post("/models/nothing/chat", json=HELLO)
    assert (answer.status_code, answer.json()["detail"]) == (404, "Model not found")


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({}, "body", "either 'messages' or 'prompt'"),
        ({**HELLO, "prompt": "Hello"}, "body", "either 'messages' or 'prompt'"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": [{"role": "robot", "content": "Hello"}]}, "messages.0.role", "'system', 'user' or 'assistant'"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages.0.content", "must not be empty"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "required"),
        ({"prompt": ""}, "prompt", "must not be empty"),
        ({"prompt": "a\0b"}, "prompt", "NUL"),
        ({**HELLO, "temperature": -1}, "temperature", "greater than or equal to 0"),
        ({**HELLO, "top_p": 0}, "top_p", "greater than 0"),
        ({**HELLO, "max_new_tokens": 0}, "max_new_tokens", "greater than or equal to 1"),
        ({**HELLO, "seed": 2**31}, "seed", "less than"),
        ({**HELLO, "stop": [""]}, "stop.0", "at least 1 character"),
        ({**HELLO, "stop": ["x"] * 9}, "stop", "at most 8"),
        ({**HELLO, "stream": "yes"}, "stream", "boolean"),
        ({**HELLO, "temprature": 1}, "body", "did you mean 'temperature'?"),
    ],
)
def test_what_is_wrong_with_a_question_is_named(
    client: TestClient, body: dict[str, Any], field: str, words: str
) -> None:
    answer = client.post(f"/models/{named(client, 'GPT-2 Small')}/chat", json=body)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["errors"][0]["field"] == field
    assert words in problem["errors"][0]["message"]


def fine_tuned(database: Database, base: Model, **changes: Any) -> Model:
    made = Model(
        name="Ours", model_type="fine_tuned", architecture="transformer", parameters_count=1, base_model_id=base.id,
        weights_folder="artifacts/one/adapter", weights_format="adapter",
    )  # fmt: skip
    for key, value in changes.items():
        setattr(made, key, value)

    def insert(session: Any) -> Model:
        session.add(made)
        session.flush()
        return made

    return database.write(insert)


@pytest.fixture
def base(database: Database, settings: Settings) -> Model:
    """A causal base whose weights are here."""
    folder = settings.models_dir / "base"
    folder.mkdir(parents=True)
    (folder / WEIGHTS_MARKER).write_text("{}")
    made = Model(
        name="Base", model_type="base", architecture="transformer", parameters_count=1, weights_folder="base",
        weights_format="model",
    )  # fmt: skip

    def insert(session: Any) -> Model:
        session.add(made)
        session.flush()
        return made

    return database.write(insert)


def prepared(
    database: Database, settings: Settings, model: Model, *, compare: bool = True, **changes: Any
) -> generation.Question:
    asked: dict[str, Any] = {"messages": ({"role": "user", "content": "Hello"},), "prompt": None, "sampling": {}}
    with database.read() as session:
        return generation.prepare(session, settings, model.id, compare=compare, **(asked | changes))


def folder_of(settings: Settings, name: str) -> Path:
    folder = settings.data_dir / "artifacts" / name / "adapter"
    folder.mkdir(parents=True)
    return folder.resolve()


def test_an_adapter_and_its_base_are_two_sides_of_one_loaded_base(
    database: Database, settings: Settings, base: Model
) -> None:
    folder = folder_of(settings, "one")
    model = fine_tuned(database, base)
    question = prepared(database, settings, model)
    assert len(question.parts) == 1
    assert question.parts[0].weights.adapters == ()
    assert question.parts[0].weights.name == "Base"
    sides = [(side.name, side.model_id, side.adapter) for side in question.parts[0].sides]
    assert sides == [("tuned", model.id, str(folder)), ("base", base.id, None)]
    assert len(prepared(database, settings, model, compare=False).parts[0].sides) == 1


def test_of_a_chain_the_last_adapter_is_live_and_the_earlier_ones_are_merged(
    database: Database, settings: Settings, base: Model
) -> None:
    first, second = folder_of(settings, "one"), folder_of(settings, "two")
    below = fine_tuned(database, base)
    model = fine_tuned(database, below, name="Second", weights_folder="artifacts/two/adapter")
    (part,) = prepared(database, settings, model).parts
    assert part.weights.adapters == (str(first),)
    assert [side.adapter for side in part.sides] == [str(second), None]
    assert part.sides[1].model_id == below.id


def test_whole_weights_and_their_base_are_two_loaded_models(
    database: Database, settings: Settings, base: Model
) -> None:
    folder_of(settings, "one")
    model = fine_tuned(database, base, weights_format="model")
    tuned, beside = prepared(database, settings, model).parts
    assert [part.sides[0].name for part in (tuned, beside)] == ["tuned", "base"]
    assert tuned.weights.path != beside.weights.path
    assert len(prepared(database, settings, base).parts) == 1


def test_a_model_without_weights_of_its_own_says_why(database: Database, settings: Settings, base: Model) -> None:
    simulated = fine_tuned(database, base, simulated=True)
    with pytest.raises(generation.Conflict, match="came from a simulation"):
        prepared(database, settings, simulated)
    with pytest.raises(generation.Conflict, match="gone from the data folder"):
        prepared(database, settings, fine_tuned(database, base))


@pytest.mark.parametrize(
    ("method", "words"), [("classify", "names labels instead of writing"), ("mask", "fills gaps instead of writing")]
)
def test_what_does_not_write_is_not_talked_to(
    database: Database, settings: Settings, base: Model, method: str, words: str
) -> None:
    folder_of(settings, "one")
    model = fine_tuned(database, base, details={"training_config": {"method": method}})
    with pytest.raises(generation.Conflict, match=words):
        prepared(database, settings, model)


def test_a_prompt_is_read_as_the_model_was_taught(database: Database, settings: Settings, base: Model) -> None:
    folder_of(settings, "one")
    manners = {}
    for method in ("sft", "pretrain"):
        model = fine_tuned(database, base, name=method, details={"training_config": {"method": method}})
        assert references.method_of(model) is Method(method)
        manners[method] = prepared(database, settings, model, messages=(), prompt="Hello").wish.manner
    assert manners == {"sft": "question", "pretrain": "text"}
    assert prepared(database, settings, base, messages=(), prompt="Hello").wish.manner == "either"


def test_the_last_word_is_the_users(database: Database, settings: Settings, base: Model) -> None:
    turns = ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello"})
    with pytest.raises(generation.Invalid, match="the last message must be the user's"):
        prepared(database, settings, base, messages=turns)


def test_whether_a_training_runs_on_this_machine(database: Database) -> None:
    def insert(session: Any, **row: Any) -> None:
        identity = new_id()
        session.add(Run(id=identity, directory=identity, spec={}, lease_until=utcnow(), **row))

    def trains() -> bool:
        with database.read() as session:
            return generation.training_runs(session)

    for row in (
        {"task": "train", "executor": "local", "state": "queued"},
        {"task": "train", "executor": "local", "state": "completed"},
        {"task": "pull", "executor": "local", "state": "running"},
        {"task": "simulate", "executor": "simulation", "state": "running"},
    ):
        database.write(lambda session, row=row: insert(session, **row))
    assert not trains()
    database.write(lambda session: insert(session, task="train", executor="local", state="running"))
    assert trains()
