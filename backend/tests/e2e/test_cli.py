"""The `slm` command as a person and a script use it: against real services, by exit code and by what is printed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from service import BACKEND, Service, rows, until
from slm_client import Client

pytestmark = pytest.mark.e2e


class Shell:
    """`slm` in an installation of its own, called from a folder that is not the backend's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        settings = {"training_simulation_delay": 0, "training_simulation_duration": 0.5}
        self.place = Service(folder, training_simulation_failure_rate=0, **settings)
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()

    def environment(self) -> dict[str, str]:
        return {**self.place.environment(), "PYTHONPATH": str(BACKEND), "COLUMNS": "120"}

    def __call__(self, *arguments: str, code: int = 0, **variables: str) -> str:
        """What it printed; its exit code must be `code`."""
        command = [sys.executable, "-m", "app.cli", *arguments]
        done = subprocess.run(
            command,
            cwd=self.elsewhere,
            env={**self.environment(), **variables},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr + done.stdout

    def json(self, *arguments: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self(*arguments, "--json"))
        return found


@pytest.fixture(scope="module")
def slm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """With a service that runs."""
    shell = Shell(tmp_path_factory.mktemp("cli"))
    shell("serve", "--background", "--port", "0")
    yield shell
    shell("stop")
    shell.place.close()


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    path = tmp_path / "tickets.csv"
    path.write_text("prompt,completion\n" + "".join(f"Question {n}?,Answer {n}\n" for n in range(20)))
    return path


def test_help_is_instant_and_names_every_command(slm: Shell) -> None:
    said = slm("--help")
    commands = [
        "serve",
        "stop",
        "supervise",
        "doctor",
        "db",
        "upload",
        "split",
        "train",
        "watch",
        "list",
        "show",
        "cancel",
        "resume",
        "pull",
    ]
    assert [name for name in commands if name not in said] == []
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "app.cli", "--help"],
        cwd=BACKEND,
        env=slm.environment(),
        capture_output=True,
        text=True,
    )
    assert not any(f" {name}\n" in imported.stderr for name in ("torch", "sqlalchemy", "fastapi", "httpx2"))


def test_a_second_service_on_the_same_data_is_refused_or_found(slm: Shell) -> None:
    assert "already runs" in slm("serve", "--port", "0", code=1)
    found = slm.json("serve", "--background")
    assert found["started"] is False
    assert str(found["url"]) in slm("serve", "--background")


def test_a_taken_port_is_told(slm: Shell, tmp_path: Path) -> None:
    other = Shell(tmp_path)
    port = str(slm.json("serve", "--background")["url"]).rpartition(":")[2]
    assert f"Port {port} is taken" in other("serve", "--port", port, code=1)
    try:
        found = other.json("serve", "--background", "--port", port, "--next-free")
        assert int(str(found["url"]).rpartition(":")[2]) > int(port)
    finally:
        other("stop")


def test_upload_list_show(slm: Shell, tickets: Path) -> None:
    said = slm("upload", str(tickets), "--name", "My tickets")
    assert "My tickets: 20 rows, prompt/completion" in said
    assert "My tickets" in slm("list", "datasets")
    listed = json.loads(slm("list", "datasets", "--json"))
    assert [row["row_count"] for row in listed if row["name"] == "My tickets"] == [20]
    assert slm.json("show", "my tick")["type"] == "dataset"
    assert "SmolLM2 135M Instruct" in slm("list", "models")


def test_split_makes_two_datasets(slm: Shell, tickets: Path) -> None:
    slm("upload", str(tickets), "--name", "To be split")
    said = slm("split", "To be split", "--fraction", "0.25")
    assert "To be split (rest): 15 rows, prompt/completion" in said
    assert "To be split (25 %): 5 rows, prompt/completion" in said
    assert said.index("for      training") < said.index("for      evaluation")
    shown = slm.json("show", "To be split (25 %)")
    assert shown["origin"]["seed"] == 42  # type: ignore[index]
    assert "keep their shares" in slm("split", "To be split", "--stratify", code=4)


def test_mistakes_get_a_sentence_and_a_code(slm: Shell, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": 1\n')
    assert "line 1" in slm("upload", str(broken), code=4).lower()
    assert "There is no file" in slm("upload", str(tmp_path / "none.csv"), code=2)
    assert "no experiment 'nothing'" in slm("watch", "nothing", code=4)
    assert "name=value" in slm("train", "--data", str(broken), "--set", "lora_r", code=2)
    assert "Nothing answers" in slm("list", "models", "--url", "http://127.0.0.1:9", code=69)
    assert "SUPERVISOR_INTERVAL" in slm("list", code=2, SUPERVISOR_INTERVAL="no")


def test_train_watches_to_the_end_and_prints_the_card(slm: Shell, tickets: Path) -> None:
    said = slm("train", "--data", str(tickets), "--model", "gpt-2 small", "--epochs", "1", "--name", "First")
    assert "First is completed." in said
    assert "made up" in said
    assert "First" in slm("list")
    assert "completed" in slm("watch", "First")


def test_train_tells_scripts_in_json(slm: Shell, tickets: Path) -> None:
    arguments = ("train", "--data", str(tickets), "--model", "gpt-2 small", "--set", "lora_r=4", "--name", "Second")
    found = slm.json(*arguments)
    assert (found["status"], found["simulated"]) == ("completed", True)
    assert found["training_config"]["lora_r"] == 4  # type: ignore[index]


def test_a_failed_training_has_its_own_code(slm: Shell, tickets: Path) -> None:
    said = slm("train", "--data", str(tickets), "--model", "gpt-2 small", "--set", "simulated_failure_rate=1.0", code=1)
    assert "as it may" in said


def test_ctrl_c_detaches_and_the_training_goes_on(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    url = str(shell.json("serve", "--background", "--port", "0")["url"])
    try:
        with Client(url) as client:
            place = shell.place
            place.client = client
            place.base()
            path = tmp_path / "rows.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
            command = ["train", "--data", str(path), "--model", "tiny-llama", "--epochs", "200", "--name", "Long"]
            with (tmp_path / "out").open("w") as out:
                watching = subprocess.Popen(
                    [sys.executable, "-m", "app.cli", *command],
                    cwd=shell.elsewhere,
                    env=shell.environment(),
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    # Where the tests themselves run in the background, the shell has them ignore it.
                    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                )
            until(lambda: "training" in (tmp_path / "out").read_text(), what="the watch")
            os.kill(watching.pid, signal.SIGINT)
            assert watching.wait(20) == 130
            assert "the training goes on" in (tmp_path / "out").read_text()
            experiment = client.experiments.list()[0]
            assert experiment.status == "running"
            assert "is cancelled" in shell("cancel", "Long")
            assert client.experiments.get(experiment.id).status == "cancelled"
            assert place.trainers() == []
            assert "is cancelled" in shell("watch", "Long", code=3)
            resumed = json.loads(shell("resume", "Long", "--no-watch", "--json"))
            assert resumed["attempt"] == 2
            until(lambda: place.reached(experiment.id, step=1, attempt=2), what="the second attempt")
            assert "keeps a checkpoint" in shell("stop", "--trainings")
            assert place.trainers() == []
    finally:
        shell("stop")


def test_doctor_tells_what_is_missing(slm: Shell, tmp_path: Path) -> None:
    said = slm("doctor")
    assert "torch" in said
    assert "slm pull" in said
    findings = slm.json("doctor")["findings"]
    assert isinstance(findings, list)
    assert {finding["state"] for finding in findings} <= {"ok", "note"}
    (tmp_path / "file").write_text("")
    broken = slm("doctor", code=1, MODELS_DIR=str(tmp_path / "file" / "models"))
    assert "cannot be written to" in broken


def test_db_upgrade_creates_and_repeats(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert "up to date" in shell("db", "upgrade")
    assert (tmp_path / "database.db").is_file()
    assert "up to date" in shell("db", "upgrade")
    secret = "postgresql+psycopg://someone:hidden@127.0.0.1:9/none"
    assert "hidden" not in shell("doctor", code=1, DATABASE_URL=secret)


def test_pull_without_a_service_takes_only_bundled_models(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert "Without a service only bundled" in shell("pull", "gpt2-small", "--direct", code=1)
    refused = shell("pull", "smollm2", "--direct", code=1, PIP_INDEX_URL="http://127.0.0.1:9/simple")
    assert "could not be fetched" in refused
    assert not list((tmp_path / "models").glob("smollm2*"))
