"""Who may call: this machine, by its own names, and no foreign page through a visitor's browser."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.main import create_app

FORM = {"name": "n", "dataset_type": "training"}
FILE = {"file": ("a.csv", "text\none\n")}


def caller(settings: Settings, *, peer: str = "127.0.0.1", base_url: str = "http://localhost:8000") -> TestClient:
    return TestClient(create_app(settings), client=(peer, 50000), base_url=base_url)


def test_this_machine_is_answered(settings: Settings) -> None:
    for peer in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
        with caller(settings, peer=peer) as client:
            assert client.get("/datasets").status_code == 200


@pytest.mark.parametrize("peer", ["192.168.1.7", "10.0.0.1", "8.8.8.8", "fe80::1", "::ffff:10.0.0.1", "not an address"])
@pytest.mark.parametrize("path", ["/", "/health", "/datasets", "/docs", "/openapi.json", "/nothing"])
def test_callers_from_elsewhere_get_a_sentence(settings: Settings, peer: str, path: str) -> None:
    with caller(settings, peer=peer) as client:
        answer = client.get(path)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["code"] == "remote_caller"
    assert "ALLOW_REMOTE" in answer.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.9"},
        {"X-Forwarded-For": "127.0.0.1, 203.0.113.9"},
        {"X-Forwarded-For": "203.0.113.9, 127.0.0.1"},
        {"Forwarded": 'for="[2001:db8::1]:4711"'},
        {"Forwarded": "for=192.0.2.60;proto=http;by=203.0.113.43"},
        {"X-Real-IP": "203.0.113.9"},
    ],
    ids=str,
)
def test_a_proxy_on_this_machine_speaks_for_its_caller(settings: Settings, headers: dict[str, str]) -> None:
    with caller(settings) as client:
        assert client.get("/datasets", headers=headers).status_code == 401
        assert client.get("/datasets", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "192.168.1.7:8000", "localhost.evil.example", ""]
)
def test_a_foreign_host_name_is_refused(settings: Settings, host: str) -> None:
    """DNS rebinding: a page's own name that now leads here."""
    with caller(settings) as client:
        assert client.get("/datasets", headers={"Host": host}).status_code == 401


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:8000"])
def test_our_own_names_are_known(settings: Settings, host: str) -> None:
    with caller(settings) as client:
        assert client.get("/datasets", headers={"Host": host}).status_code == 200


def test_a_named_host_is_known(settings: Settings) -> None:
    named = settings.model_copy(update={"allowed_hosts": ["trainer.example"]})
    with caller(named) as client:
        assert client.get("/datasets", headers={"Host": "trainer.example:8000"}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://10.0.0.1:8501"]
)
def test_a_foreign_page_may_not_write(settings: Settings, origin: str) -> None:
    with caller(settings) as client:
        answer = client.post("/datasets/upload", data=FORM, files=FILE, headers={"Origin": origin})
        assert answer.status_code == 403
        assert answer.json()["code"] == "foreign_origin"
        assert client.get("/datasets").json() == []


@pytest.mark.parametrize("origin", ["http://localhost:8501", "http://127.0.0.1:8502", "http://localhost:8000"])
def test_known_pages_may_write(settings: Settings, origin: str) -> None:
    with caller(settings) as client:
        answer = client.post("/datasets/upload", data=FORM, files=FILE, headers={"Origin": origin})
        assert answer.status_code == 201


def test_allow_remote_opens_the_service_but_not_to_foreign_pages(settings: Settings) -> None:
    opened = settings.model_copy(update={"allow_remote": True})
    with caller(opened, peer="192.168.1.7", base_url="http://trainer.local:8000") as client:
        assert client.get("/datasets").status_code == 200
        assert client.post("/datasets/upload", data=FORM, files=FILE).status_code == 201
        foreign = {"Origin": "https://evil.example"}
        assert client.post("/datasets/upload", data=FORM, files=FILE, headers=foreign).status_code == 403


def test_streamlit_may_read_from_a_browser(settings: Settings) -> None:
    with caller(settings) as client:
        answer = client.get("/datasets", headers={"Origin": "http://localhost:8501"})
        assert answer.headers["access-control-allow-origin"] == "http://localhost:8501"
        assert (
            "access-control-allow-origin"
            not in client.get("/datasets", headers={"Origin": "https://x.example"}).headers
        )
