"""Who gets in, what passes through, and what the service is told of the visitor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from anyio.from_thread import start_blocking_portal
from slm_client import Relay
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from door import Door, PassThrough
from visitor import forwarded_for, is_loopback, known_host, proxied, same_origin

UPLOAD = "/api/datasets/upload"


class Service(httpx2.AsyncBaseTransport):
    """A service that keeps what it was sent, block by block."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self.blocks: list[int] = []
        self.answers(201, b'{"id": "d1"}')

    def answers(self, status: int, body: bytes, **headers: str) -> None:
        self._answer = status, body, {name.replace("_", "-"): value for name, value in headers.items()}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        async for block in request.stream:
            self.blocks.append(len(block))
        status, body, headers = self._answer

        async def content() -> AsyncIterator[bytes]:
            yield body

        return httpx2.Response(status, content=content(), headers={"Content-Length": str(len(body)), **headers})


@pytest.fixture
def behind() -> Service:
    return Service()


def browser(
    behind: Service, *, peer: str = "127.0.0.1", host: str = "localhost:8501", key: str | None = None
) -> TestClient:
    pages = PlainTextResponse("a page")
    relay = Relay("http://service:8000", api_key=key, transport=behind)
    app = Door(PassThrough(pages, connect=lambda: relay), allowed_hosts=["workbench.lan"])
    return TestClient(app, base_url=f"http://{host}", client=(peer, 50000))


def test_an_upload_goes_to_the_service_with_the_key_and_no_cookie(behind: Service) -> None:
    answer = browser(behind, key="secret").post(
        UPLOAD, files={"file": ("a.csv", b"a,b\n1,2\n")}, headers={"Cookie": "x=1", "Origin": "http://localhost:8501"}
    )
    assert (answer.status_code, answer.json()) == (201, {"id": "d1"})
    sent = behind.requests[0]
    assert str(sent.url) == "http://service:8000/datasets/upload"
    assert sent.headers["authorization"] == "Bearer secret"
    assert sent.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert not {"cookie", "origin", "x-forwarded-for"} & {*sent.headers}


def test_a_visitors_own_key_does_not_pass(behind: Service) -> None:
    browser(behind, key="secret").post(UPLOAD, content=b"x", headers={"Authorization": "Bearer theirs"})
    assert behind.requests[0].headers["authorization"] == "Bearer secret"


def test_a_visitor_from_elsewhere_is_named_to_the_service(behind: Service) -> None:
    browser(behind, peer="192.0.2.7", host="10.0.0.5:8501").post(UPLOAD, content=b"x")
    browser(behind).post(UPLOAD, content=b"x", headers={"X-Forwarded-For": "203.0.113.9"})
    assert [sent.headers["x-forwarded-for"] for sent in behind.requests] == ["192.0.2.7", "203.0.113.9, 127.0.0.1"]


def test_blocks_are_passed_on_one_by_one(behind: Service) -> None:
    def blocks() -> Any:
        for _ in range(8):
            yield b"x" * 1000

    browser(behind).post(UPLOAD, content=blocks())
    assert sum(behind.blocks) == 8000
    assert len(behind.blocks) >= 1


def test_a_download_keeps_its_name_range_and_tag(behind: Service) -> None:
    named = 'attachment; filename="a.csv"'
    told = {"ETag": '"abc"', "Content_Range": "bytes 0-3/10", "Content_Disposition": named}
    behind.answers(206, b"a,b\n", Set_Cookie="no=1", Server="inner", **told)
    answer = browser(behind).get("/api/datasets/d1/download", headers={"Range": "bytes=0-3"})
    assert (answer.status_code, answer.content) == (206, b"a,b\n")
    assert answer.headers["etag"] == '"abc"'
    assert answer.headers["content-disposition"] == named
    assert answer.headers["content-range"] == "bytes 0-3/10"
    assert answer.headers["content-length"] == "4"
    assert not {"set-cookie", "server"} & {*answer.headers}
    assert behind.requests[0].headers["range"] == "bytes=0-3"
    assert behind.requests[0].headers["accept-encoding"] == "identity"


def test_a_refusal_of_the_service_arrives_as_it_is(behind: Service) -> None:
    behind.answers(422, b'{"detail": "Line 3 is broken."}')
    assert browser(behind).post(UPLOAD, content=b"x").json() == {"detail": "Line 3 is broken."}


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/datasets", "/api/keys", "/api/datasets/../keys/download",
                                  "/api/datasets/upload/x", "/api//datasets/upload"])  # fmt: skip
def test_nothing_else_passes(path: str, behind: Service) -> None:
    answer = browser(behind).get(path)
    assert answer.status_code == 404
    assert not behind.requests


def test_each_way_has_one_method(behind: Service) -> None:
    answer = browser(behind).get(UPLOAD)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert browser(behind).delete("/api/datasets/d1/download").status_code == 405
    assert not behind.requests


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "http://localhost:9999"}, {"Origin": "null"},
     {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
)  # fmt: skip
def test_a_foreign_page_cannot_send_through_a_visitors_browser(headers: dict[str, str], behind: Service) -> None:
    answer = browser(behind).post(UPLOAD, content=b"x", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert not behind.requests


def test_an_absent_service_is_a_sentence() -> None:
    def gone(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused", request=request)

    relay = Relay("http://service:8000", transport=httpx2.MockTransport(gone))
    app = PassThrough(PlainTextResponse("a page"), connect=lambda: relay)
    answer = TestClient(app, base_url="http://localhost").post(UPLOAD, content=b"x")
    assert answer.status_code == 502
    assert "Nothing answers at http://service:8000" in answer.json()["detail"]


def test_a_browser_that_goes_away_ends_the_upload_quietly(behind: Service) -> None:
    relay = Relay("http://service:8000", transport=behind)
    app = PassThrough(PlainTextResponse("a page"), connect=lambda: relay)
    messages = iter([{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": UPLOAD, "query_string": b"", "headers": [], "client": None}
    with start_blocking_portal() as portal:
        portal.call(app, scope, receive, send)
    assert sent == []


@pytest.mark.parametrize(
    "host", ["localhost:8501", "127.0.0.1", "[::1]:8501", "10.0.0.5:8501", "workbench.lan", "a.localhost"]
)
def test_the_workbench_knows_its_names(host: str, behind: Service) -> None:
    assert browser(behind, host=host).get("/").text == "a page"


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "workbench.lan.evil.example"])
def test_a_rebound_name_is_refused(host: str, behind: Service) -> None:
    client = browser(behind, host=host)
    assert client.get("/").status_code == 421
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/_stcore/stream"):
        pass


@pytest.mark.parametrize(
    ("peer", "told", "forwarded"),
    [("127.0.0.1", [], ""), ("::1", [], ""), (None, [], ""), ("::ffff:127.0.0.1", [], ""),
     ("192.0.2.7", [], "192.0.2.7"), ("127.0.0.1", ["127.0.0.1"], ""),
     ("127.0.0.1", ["192.0.2.7, 127.0.0.1"], "192.0.2.7, 127.0.0.1, 127.0.0.1"),
     ("127.0.0.1", ["[2001:db8::1]:443"], "2001:db8::1, 127.0.0.1"),
     ("127.0.0.1", ["192.0.2.7:90"], "192.0.2.7, 127.0.0.1"),
     ("127.0.0.1", ["proxy.internal"], "unknown, 127.0.0.1"), (None, ["a\r\nX: y"], "unknown")],
)  # fmt: skip
def test_what_is_known_of_the_visitor_is_said(peer: str | None, told: list[str], forwarded: str) -> None:
    assert forwarded_for(peer, told) == forwarded


def test_proxies_may_speak_in_three_ways() -> None:
    headers = [("X-Forwarded-For", "192.0.2.1"), ("X-Real-IP", "192.0.2.2"), ("Accept", "x"),
               ("Forwarded", 'for="[2001:db8::1]";proto=http, For=192.0.2.3')]  # fmt: skip
    assert proxied(headers) == ["192.0.2.1", "192.0.2.2", "[2001:db8::1]", "192.0.2.3"]


def test_names_and_origins() -> None:
    assert is_loopback("localhost")
    assert not is_loopback("localhost.example")
    assert known_host("[::1]:80", [])
    assert not known_host("", [])
    assert same_origin("http://LOCALHOST:8501", "localhost:8501")
    assert not same_origin("ftp://localhost:8501", "localhost:8501")
