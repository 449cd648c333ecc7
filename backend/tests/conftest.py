"""What every test of the platform shares: settings in a folder of its own, rows on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.database import Database
from app.main import create_app
from app.migrations import upgrade

IN_CI = bool(os.environ.get("CI"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long forms too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        chosen = [item for item in items if "slow" not in item.keywords]
        config.hook.pytest_deselected(items=[item for item in items if "slow" in item.keywords])
        items[:] = chosen


def missing_tool(what: str) -> None:
    """A tool that a test needs is not here: a skip on a developer's machine, a failure in CI."""
    if IN_CI:
        pytest.fail(f"{what} is missing, and CI must not skip")
    pytest.skip(f"{what} is missing")


def _postgres_binaries() -> Path | None:
    named = os.environ.get("POSTGRES_BIN")
    folders = [Path(named)] if named else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    folders += [Path(found).parent] if found else []
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server of this session, on a socket of its own, with `{name}` for the database."""
    binaries = _postgres_binaries()
    if binaries is None:
        missing_tool("PostgreSQL")
        return
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="slm-pg-"))
    as_user: dict[str, object] = {"cwd": folder, "check": True, "capture_output": True}
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        as_user |= {"user": "postgres", "group": "postgres", "extra_groups": []}
    data = folder / "data"
    initdb = [
        binaries / "initdb",
        "-D",
        data,
        "-U",
        "test",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
    ]
    subprocess.run(initdb, **as_user)  # type: ignore[call-overload]
    control = [binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log"]
    subprocess.run([*control, "-o", f"-k {folder} -h '' -F", "start"], **as_user)  # type: ignore[call-overload]
    try:
        yield f"postgresql+psycopg://test@/{{name}}?host={folder}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **as_user)  # type: ignore[call-overload]
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/database.db"
    import psycopg

    server = request.getfixturevalue("postgres_server")
    name = f"t{uuid4().hex}"
    address = server.format(name="postgres").replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return str(server.format(name=name))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Rows with the schema of the newest migration."""
    upgrade(database_url)
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A platform of its own: simulation is quick and never fails, no warm process, nothing outside the folder."""
    return Settings(
        _env_file=None,
        database_url=f"sqlite:///{tmp_path}/database.db",
        upload_dir=tmp_path / "uploads",
        data_dir=tmp_path / "data",
        models_dir=tmp_path / "models",
        training_simulation_delay=0,
        training_simulation_duration=0.2,
        training_simulation_failure_rate=0,
        supervisor_interval=0.02,
        warm_process=False,
        threads=1,
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """The whole service in this process, its supervisor included."""
    with TestClient(create_app(settings)) as opened:
        yield opened
