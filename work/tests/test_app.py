"""The server's own module: its port, what it says, and what a person reads when a page fails."""

from __future__ import annotations

import importlib.util
import logging
import socket
from types import ModuleType

import pytest
import streamlit as st
from slm_client import Invalid, NotTheService, ServiceUnreachable, Unavailable
from slm_client.errors import FieldError
from streamlit.testing.v1 import AppTest

from components.states import UNEXPECTED, away_sentence, calm
from settings import HERE, Settings


@pytest.fixture(scope="module")
def server() -> ModuleType:
    """`app.py` under another name: `app` is the service's package where both are importable."""
    spec = importlib.util.spec_from_file_location("workbench_server", HERE / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_taken_port_is_passed_over(server: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(server, "FIRST_PORT", port)
        monkeypatch.setattr(server, "LAST_PORT", port + 20)
        assert port < server.free_port("127.0.0.1") <= port + 20
        monkeypatch.setattr(server, "LAST_PORT", port)
        with pytest.raises(SystemExit, match="WORKBENCH_PORT"):
            server.free_port("127.0.0.1")


def test_the_server_is_streamlits_with_our_door(server: ModuleType) -> None:
    assert isinstance(server.app, st.App)
    assert [layer.cls.__name__ for layer in server.app._user_middleware] == ["Door", "PassThrough"]


def test_no_trace_reaches_a_person(caplog: pytest.LogCaptureFixture) -> None:
    def page() -> None:
        from components.states import calm

        calm(RuntimeError("secret"))

    with caplog.at_level(logging.ERROR, logger="workbench"):
        shown = AppTest.from_function(page).run()
    assert [error.value for error in shown.error] == [UNEXPECTED]
    assert any(record.exc_info and "secret" in str(record.exc_info[1]) for record in caplog.records)
    assert calm.__doc__


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_BASE_URL", "http://other:9000/")
    monkeypatch.setenv("SLM_API_KEY", "secret")
    monkeypatch.setenv("ALLOWED_HOSTS", "Workbench.lan, b.example")
    chosen = Settings(_env_file=None)
    assert chosen.key == "secret"
    assert "secret" not in repr(chosen)
    assert chosen.allowed_hosts == ["workbench.lan", "b.example"]
    assert (chosen.workbench_address, chosen.workbench_port) == ("127.0.0.1", None)


def test_every_setting_is_in_the_example_file() -> None:
    text = (HERE / ".env.example").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        assert f"# {name.upper()}=" in text
        assert (field.description or "") in text.replace("\n# ", " ").replace("# ", "")


def test_sentences_for_what_can_go_wrong() -> None:
    assert "does not answer" in away_sentence(ServiceUnreachable("x"))
    assert away_sentence(Unavailable("The disk is full.", status=503)).startswith("The disk is full.")
    assert "API_BASE_URL" in away_sentence(NotTheService("x"))
    from components.states import sentence

    errors = [FieldError("a", "is wrong"), FieldError("b", "is missing")]
    assert sentence(Invalid("a: is wrong.", status=422, errors=errors)) == "a: is wrong.  \nb: is missing"
