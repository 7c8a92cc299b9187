"""One reader of a store for all pages that show it live."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack, closing
from typing import Any

import pytest

from etl import Batch, open_queue
from etl.errors import StoreUnavailable, UsageError
from etl.server import feed as feeds
from etl.server.app import create_app
from etl.server.feed import Feed, message
from etl.server.security import RequestLimits
from etl.server.service import Service


class Store:
    """A store of which each version is read as its number; `error` is raised instead."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.read: list[int] = []
        self.threads: set[threading.Thread] = set()
        self._number = 0
        self._changed = threading.Condition()

    def version(self) -> int:
        return self._number

    def change(self) -> None:
        with self._changed:
            self._number += 1
            self._changed.notify_all()

    def wait(self, since: object, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._number != since, timeout)

    def overview(self, seconds: int) -> dict[str, Any]:
        self.read.append(seconds)
        self.threads.add(threading.current_thread())
        if self.error:
            raise self.error
        return {"number": self._number, "seconds": seconds}


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def feed(store: Store) -> Feed:
    return Feed(store, store.overview, lambda error: f"told: {error}")


async def until(messages: Any, wanted: str) -> int:
    """Read messages up to one; return how many there were."""
    count = 0
    async for text in messages:
        count += 1
        if text == wanted:
            return count
    pytest.fail(f"ended before {wanted}")


def say(number: int, seconds: int = 120) -> str:
    return message("overview", {"number": number, "seconds": seconds})


def test_an_event_is_one_line_of_json_whatever_is_in_it():
    assert (
        message("a", {"text": "x\n\ndata: y"}) == 'event: a\ndata: {"text": "x\\n\\ndata: y"}\n\n'
    )


def test_all_viewers_are_told_by_one_reader_which_ends_with_the_last(store, feed):
    async def main() -> None:
        with feed.view(120) as one, feed.view(120) as other, feed.view(900) as longer:
            await asyncio.gather(until(one, say(0)), until(other, say(0)))
            await until(longer, say(0, 900))
            store.change()
            await asyncio.gather(*(until(viewer, say(1)) for viewer in (one, other)))

    asyncio.run(main())
    (thread,) = store.threads
    thread.join(10)
    assert not thread.is_alive()
    assert set(store.read) == {120, 900}


def test_a_viewer_that_comes_later_is_told_at_once_what_is_known(store, feed):
    async def main() -> None:
        with feed.view(120) as one:
            await until(one, say(0))
            with feed.view(120) as other:
                assert await until(other, say(0)) == 1

    asyncio.run(main())


def test_a_slow_viewer_misses_what_is_old(store, feed):
    async def main() -> None:
        with feed.view(120) as slow, feed.view(120) as quick:
            await until(slow, say(0))
            for number in range(1, 4):
                store.change()
                await until(quick, say(number))
            assert await until(slow, say(3)) <= 2

    asyncio.run(main())


def test_an_error_that_passes_is_told_and_the_store_is_read_again(store, feed):
    async def main() -> None:
        store.error = StoreUnavailable("away")
        with feed.view(120) as viewer:
            await until(viewer, message("problem", {"error": "told: away"}))
            store.error = None
            await until(viewer, say(0))

    asyncio.run(main())


def test_a_fault_of_ours_ends_all_messages(store, feed, monkeypatch):
    raised: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)

    async def main() -> list[str]:
        store.error = ZeroDivisionError("a fault")
        with feed.view(120) as viewer:
            assert [text async for text in viewer] == []
        store.error = None
        with feed.view(120) as viewer:
            await until(viewer, say(0))

    asyncio.run(main())
    assert [one.exc_type for one in raised] == [ZeroDivisionError]


def test_closing_ends_the_messages_of_all_and_the_reader(store, feed):
    async def main() -> None:
        with feed.view(120) as one, feed.view(900) as other:
            await until(one, say(0))
            await until(other, say(0, 900))
            await asyncio.to_thread(feed.close)
            assert not any(thread.is_alive() for thread in store.threads)
            for viewer in (one, other):
                assert [text async for text in viewer if '"number": 0' not in text] == []
        with feed.view(120) as late:
            assert [text async for text in late] == []

    asyncio.run(main())


def test_there_are_only_so_many_viewers(feed, monkeypatch):
    monkeypatch.setattr(feeds, "MAX_VIEWERS", 2)

    async def main() -> None:
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(feed.view(120))
            with pytest.raises(UsageError, match="2 pages are open"):
                stack.enter_context(feed.view(120))
        with feed.view(120) as viewer:
            await until(viewer, say(0))

    asyncio.run(main())


def test_a_client_that_stops_reading_does_not_keep_its_place():
    sent: list[str] = []
    asked = iter([{"type": "http.request"}])

    async def receive() -> dict[str, Any]:
        return next(asked, None) or await asyncio.Event().wait()  # it never hangs up

    async def send(given: dict[str, Any]) -> None:
        sent.append(given["type"])
        if len(sent) > 1:
            await asyncio.Event().wait()  # for good, as to a client that is frozen

    async def main() -> None:
        headers = [(b"host", b"localhost")]
        scope = {"type": "http", "method": "GET", "path": "/events", "headers": headers}
        await app({**scope, "query_string": b"", "root_path": "", "asgi": {}}, receive, send)

    with closing(open_queue("sqlite://")) as queue:
        queue.put(Batch.from_lines(["INFO a"]))
        service = Service(queue, run="", log=None)
        app = create_app(service, limits=RequestLimits(idle_timeout=0.1))
        asyncio.run(asyncio.wait_for(main(), 60))
        service.feed.close()
    assert sent == ["http.response.start", "http.response.body"]
