"""The systemd journal as a source: a real journalctl, over a journal that is made here."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from growing import put, wait_until

import etl
from etl import open_queue
from etl.errors import SourceError, UsageError
from etl.pipeline.load import load_pipeline
from etl.queue import Queue
from etl.sources import journal as source_of_journals
from etl.sources.ingest import ingest
from etl.sources.resolve import resolve_sources
from etl.sources.sample import first_lines
from etl.workers.worker import Worker

REMOTE = next(
    (
        found
        for folder in ("/lib/systemd", "/usr/lib/systemd")
        if (found := shutil.which("systemd-journal-remote", path=folder))
    ),
    "",
)

pytestmark = pytest.mark.skipif(
    not (REMOTE and shutil.which("journalctl")),
    reason="systemd-journal-remote, which makes a journal, is not installed",
)


class Journal:
    """A journal in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"journald://{path}"
        self._numbers = count()

    def add(self, *messages: str | bytes, **fields: str) -> None:
        """Add an entry for each message, a second after the one before."""
        command = [REMOTE, f"--output={self.path}", "-"]
        entries = b"".join(self._entry(message, fields) for message in messages)
        subprocess.run(command, input=entries, capture_output=True, check=True)

    def _entry(self, message: str | bytes, fields: dict[str, str]) -> bytes:
        number = next(self._numbers)
        data = message.encode() if isinstance(message, str) else message
        given = {
            "__REALTIME_TIMESTAMP": f"{1_764_000_000 + number}000000",
            "__MONOTONIC_TIMESTAMP": f"{number}000000",
            "_BOOT_ID": "0123456789abcdef0123456789abcdef",
            "PRIORITY": "6",
            "SYSLOG_IDENTIFIER": "shop",
        } | fields
        head = "".join(f"{name}={value}\n" for name, value in given.items()).encode()
        return head + b"MESSAGE\n" + len(data).to_bytes(8, "little") + data + b"\n\n"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "a.journal")


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = open_queue(str(tmp_path / "s.db"))
    yield queue
    queue.close()


def messages(queue: Queue, tmp_path: Path) -> Sequence[str]:
    """Return what a worker makes of what was put, in order."""
    Worker(queue, load_pipeline("etl.default:pipeline"), out=tmp_path / "out").drain()
    assert queue.stats().conserved
    return etl.read_output(tmp_path / "out").sort("line_number")["message"].to_list()


def test_each_entry_is_read_once(journal: Journal, queue: Queue, tmp_path: Path) -> None:
    journal.add("one", "two")
    assert put(queue, journal.url) == 2
    assert put(queue, journal.url) == 0
    journal.add("three")
    assert put(queue, journal.url) == 1
    assert messages(queue, tmp_path) == ["one", "two", "three"]
    assert put(queue, journal.url, reread=True) == 3


def test_an_entry_is_a_record_whatever_its_message_is(
    journal: Journal, queue: Queue, tmp_path: Path
) -> None:
    odd = 'it says "__CURSOR":"x=1"'
    journal.add("failed\n  at a\n  at b", PRIORITY="3")
    journal.add(b"caf\xe9", "x" * 9000, odd, PRIORITY="4")
    assert put(queue, journal.url) == 4
    assert put(queue, journal.url) == 0
    wanted = ["failed\n  at a\n  at b", "caf\N{REPLACEMENT CHARACTER}", "x" * 9000, odd]
    assert messages(queue, tmp_path) == wanted
    rows = etl.read_output(tmp_path / "out").sort("line_number")
    assert rows["level"].to_list() == ["ERROR", "WARNING", "WARNING", "WARNING"]
    assert set(rows["logger"]) == {"shop"}
    assert str(rows["timestamp"][0]) == "2025-11-24 16:00:00+00:00"


def test_an_entry_over_the_limit_of_a_line_takes_no_other_with_it(
    journal: Journal, queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.settings.Settings.max_line_bytes", 2000)
    for size in (5_000, 9_000):
        journal.add("before", "x" * size, "after", "and after")
    put(queue, journal.url)
    assert put(queue, journal.url) == 0
    found = messages(queue, tmp_path)
    assert [one for one in found if one in ("before", "after", "and after")] == [
        *("before", "after", "and after"),
        *("before", "after", "and after"),
    ]


def test_what_is_read_is_named_by_the_url(journal: Journal, queue: Queue) -> None:
    journal.add("one", _SYSTEMD_UNIT="a.service")
    journal.add("two", _SYSTEMD_UNIT="b.service", PRIORITY="3")
    journal.add("three", _SYSTEMD_UNIT="b.service")
    assert put(queue, f"{journal.url}?_SYSTEMD_UNIT=b.service") == 2
    assert put(queue, f"{journal.url}?_SYSTEMD_UNIT=b.service&priority=err") == 1
    assert put(queue, f"{journal.url}?since=2025-11-24 16:00:02 UTC") == 1
    journal.add("four")
    assert put(queue, f"{journal.url}?since=2025-11-24 16:00:02 UTC") == 1  # and goes on
    assert put(queue, f"journald://{journal.path.parent}?identifier=shop") == 4
    lines, _ = first_lines(resolve_sources([journal.url])[0])
    assert len(lines) == 4


def test_entries_are_put_as_they_come(journal: Journal, queue: Queue) -> None:
    journal.add("before")
    stop = threading.Event()
    (source,) = resolve_sources([journal.url], follow=stop)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(lambda: sum(one.batch.lines for one in ingest(queue, source)))
        try:
            wait_until(queue, lambda: queue.stats().accepted == 1)
            journal.add("after", "and after")
            wait_until(queue, lambda: queue.stats().accepted == 3)
        finally:
            stop.set()
        assert following.result() == 3


def test_an_entry_that_is_cut_off_is_read_whole_the_next_time(
    journal: Journal, queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.add("one", "two")
    program = tmp_path / "journalctl"
    program.write_text('#!/bin/sh\njournalctl "$@" | head -c 400\necho it broke >&2\nexit 1\n')
    program.chmod(0o700)
    with monkeypatch.context() as patch:
        patch.setattr(source_of_journals, "PROGRAM", str(program))
        with pytest.raises(SourceError, match=r"a\.journal' cannot be read: it broke"):
            put(queue, journal.url)
    assert queue.stats().accepted == 1
    assert put(queue, journal.url) == 1
    assert messages(queue, tmp_path) == ["one", "two"]


def test_what_cannot_be_read_is_said(
    journal: Journal, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, said in {
        "/none": "No such file or directory",
        f"{journal.path}?since=nonsense": "Failed to parse timestamp: nonsense",
    }.items():
        with pytest.raises(SourceError, match=f"cannot be read: .*{said}"):
            put(queue, f"journald://{path}")
    with pytest.raises(UsageError, match="names a host; write journald:// for this machine's"):
        put(queue, "journald://host")
    with pytest.raises(UsageError, match="asks for 'x', which is neither a field of the journal"):
        put(queue, "journald://?x=1")
    monkeypatch.setattr(source_of_journals, "PROGRAM", "/none/journalctl")
    with pytest.raises(SourceError, match="/none/journalctl: No such file or directory"):
        put(queue, "journald://")
