"""While the service takes its time, every page says that it is being asked, and nothing looks broken."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from components.pages import ENTRIES
from flows import QUIET
from stage import Workbench

pytestmark = pytest.mark.browser


class Slow(ThreadingHTTPServer):
    """A service that answers every question with a refusal, once it is let."""

    daemon_threads = True

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        super().__init__(("127.0.0.1", 0), _Answers)


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Slow = self.server  # type: ignore[assignment]
        server.may_answer.wait(60)
        body = json.dumps({"detail": "Not yours to see.", "status": 403, "code": "forbidden"}).encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the name that http.server asks for

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture(scope="module")
def slow() -> Iterator[Slow]:
    server = Slow()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.may_answer.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def waiting(slow: Slow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    folder: Path = tmp_path_factory.mktemp("waiting")
    workbench = Workbench(folder, f"http://127.0.0.1:{slow.server_port}").start()
    yield workbench
    workbench.close()


@pytest.mark.parametrize("name", ENTRIES)
def test_a_page_that_waits_says_so_and_then_shows_what_came(
    name: str, browser: Browser, slow: Slow, waiting: Workbench
) -> None:
    slow.may_answer.clear()
    context = browser.new_context(base_url=waiting.url)
    page = context.new_page()
    page.set_default_timeout(40_000)
    page.goto({"home": "/", "run": "/run?id=e1", "compare": "/compare?ids=e1,e2"}.get(name, f"/{name}"))
    expect(page.get_by_text("Asking the service").first).to_be_visible(timeout=30_000)
    assert not page.get_by_role("alert").count()
    slow.may_answer.set()
    page.wait_for_selector(QUIET)
    expect(page.get_by_text("Asking the service")).to_have_count(0)
    assert not page.get_by_test_id("stException").count()
    context.close()
