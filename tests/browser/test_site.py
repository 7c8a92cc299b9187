"""The documentation as a reader sees it in a browser that can reach no other host."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def address(documentation_site: Path) -> Iterator[str]:
    """Serve the site and return where it is."""
    handler = partial(Quiet, directory=str(documentation_site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_no_page_asks_another_host_for_anything(
    screen: Any, address: str, documentation_site: Path
):
    asked: list[str] = []
    screen.page.on("request", lambda request: asked.append(request.url))
    for path in sorted(documentation_site.rglob("*.html")):
        page = path.relative_to(documentation_site).as_posix()
        # what scripts ask for later is the same on all pages: it is awaited on one
        until = "networkidle" if page == "index.html" else "load"
        screen.page.goto(f"{address}/{page}", wait_until=until)
    assert len(asked) > 50
    assert [url for url in asked if not url.startswith((address, "data:"))] == []
    assert screen.problems == []
    screen.page.goto("about:blank")  # nothing is asked for any more when the server ends


def test_a_word_of_a_page_is_found(screen: Any, address: str):
    page = screen.page
    page.goto(f"{address}/index.html", wait_until="networkidle")
    page.keyboard.press("Control+k")
    page.keyboard.type("fingerprint")
    expect(page.get_by_text("Work through dead letters").last).to_be_visible()
    screen.shoot("documentation")
