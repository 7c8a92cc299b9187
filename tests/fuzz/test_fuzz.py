"""Bytes that nobody meant: nothing of a line is lost, and nothing but an error comes of damage.

A few examples of each here; `ETL_CHAOS_MINUTES=10` gives each its share of so many minutes.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from etl import Batch, Parse, Pipeline, Worker, normalise, open_queue, reject
from etl.analysis.templates import template_of
from etl.dlq.dead_letters import DeadLetters
from etl.errors import PayloadDamaged
from etl.formats import FORMATS
from etl.queue import DeadLetterFilter
from etl.records.batch import Reference, decode_payload

MINUTES = float(os.environ.get("ETL_CHAOS_MINUTES", "0"))
PROPERTIES = 5

HEADS = [
    b"2026-11-22 09:00:00,000 INFO shop: ",
    b"Nov 22 09:00:00 host app[12]: ",
    b'{"time": "2026-11-22T09:00:00Z", "level": "info", "a": ',
    b"level=info msg=",
    b'127.0.0.1 - - [22/Nov/2026:09:00:00 +0000] "GET / HTTP/1.1" 200 ',
    b"<34>1 2026-11-22T09:00:00Z host app - - - ",
    b"\xef\xbb\xbf",
    b"\x1f\x8b\x08",
    b"",
]
LINES = st.lists(
    st.builds(
        bytes.__add__,
        st.sampled_from(HEADS),
        st.one_of(
            st.binary(max_size=40),
            st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
            st.sampled_from([b'"x"}', b"{}", b"[1, 2", b"\x00", b"\xff\xfe", b"a=b c", b"\\u0000"]),
        ),
    ).map(lambda line: line.replace(b"\n", b" ")),
    min_size=1,
    max_size=6,
)


def fuzzed(property: Callable[..., None]) -> Callable[..., None]:
    """Try a property with a few examples, or for its share of the minutes that are given."""
    phases = [Phase.explicit, Phase.generate, Phase.shrink]
    few = settings(
        max_examples=300 if MINUTES else 40,
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    return few(property)


@pytest.fixture
def again():
    """Repeat a property until its time is over."""

    def repeat(property: Callable[[], None]) -> None:
        until = time.monotonic() + 60 * MINUTES / PROPERTIES
        property()
        while time.monotonic() < until:
            property()

    return repeat


def originals(frame: pl.DataFrame) -> list[bytes]:
    """Return the bytes of the lines of a frame."""
    raw = frame["raw"] if "raw" in frame.columns else [None] * frame.height
    pairs = zip(frame["line"], raw, strict=True)
    return [line.encode() if odd is None else odd for line, odd in pairs]


def bare(line: bytes) -> bytes:
    return line.removesuffix(b"\r")


@pytest.mark.timeout(0)
def test_a_batch_gives_back_the_bytes_of_each_line(again):
    @fuzzed
    @given(LINES)
    def holds(lines: list[bytes]) -> None:
        text = b"".join(line + b"\n" for line in lines)
        batch = Batch(lines=len(lines), payload=text, source="fuzz")
        assert originals(batch.frame()) == [bare(line) for line in lines]
        payload = decode_payload(*batch.encode())
        assert payload == text

    again(holds)


@pytest.mark.timeout(0)
def test_every_line_comes_out_of_every_format_or_is_dead(again):
    @fuzzed
    @given(LINES, st.sampled_from([None, *FORMATS]), st.booleans())
    def holds(lines: list[bytes], format: str | None, strict: bool) -> None:  # noqa: FBT001
        seen: list[pl.DataFrame] = []
        pipeline = Pipeline().add("parse", Parse(format if strict else None))
        pipeline.add("normalise", normalise)
        pipeline.add("see", lambda frame: seen.append(frame) or frame)
        queue = open_queue("sqlite://")
        queue.put(Batch.from_lines(lines, source="fuzz"))
        Worker(queue, pipeline).drain()
        stats = queue.stats()
        assert stats.conserved
        dead = queue.dead_letters(DeadLetterFilter())
        assert stats.done + stats.dead == len(lines)
        assert set(dead["code"]) <= {"no_format"}, dead.select("code", "message").rows()
        texts = sorted(Batch.from_lines(lines).frame()["line"].to_list())
        assert sorted([line for one in seen for line in one["line"]] + dead["line"].to_list()) == (
            texts
        )
        queue.close()

    again(holds)


@pytest.mark.timeout(0)
def test_a_dead_letter_is_replayed_with_its_bytes(again):
    @fuzzed
    @given(LINES, st.text(max_size=20))
    def holds(lines: list[bytes], reason: str) -> None:
        queue = open_queue("sqlite://")
        queue.put(Batch.from_lines(lines, source=f"fuzz {reason!a}"))
        everything = Pipeline().add("no", lambda f: reject(f, pl.lit(value=True), "no", reason))
        Worker(queue, everything).drain()
        dead = queue.dead_letters(DeadLetterFilter())
        assert originals(dead) == [bare(line) for line in lines]
        assert DeadLetters(queue).replay() == len(lines)
        lease = queue.lease("fuzz", lines=10)
        assert originals(lease.batches[0].frame()) == [bare(line) for line in lines]
        queue.close()

    again(holds)


@pytest.mark.timeout(0)
def test_templates_of_any_lines_are_found(again):
    @fuzzed
    @given(LINES)
    def holds(lines: list[bytes]) -> None:
        texts = Batch.from_lines(lines).frame()["line"]
        assert template_of(texts).len() == len(lines)

    again(holds)


def arrow() -> bytes:
    buffer = io.BytesIO()
    frame = pl.DataFrame({"line": ["a", "b"], "line_number": [1, 2], "line_count": [1, 1]})
    frame.write_ipc(buffer, compression="zstd")
    return buffer.getvalue()


PAYLOADS = {
    "zstd": Batch(lines=40, payload=b"one line of text\n" * 40, source="x").encode()[1],
    "arrow": arrow(),
    "reference": Batch(lines=1, payload=Reference("/x", 0, 5, 7), source="x").encode()[1],
    "text": b"one\ntwo\n",
}


@pytest.mark.timeout(0)
def test_a_payload_that_was_damaged_is_an_error_or_another_payload(again):
    @fuzzed
    @given(
        st.sampled_from(list(PAYLOADS)),
        st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), min_size=1, max_size=4),
        st.integers(0, 2_000),
    )
    def holds(encoding: str, changes: list[tuple[int, int]], cut: int) -> None:
        data = bytearray(PAYLOADS[encoding])
        for place, value in changes:
            data[place % len(data)] = value
        try:
            found = decode_payload(encoding, bytes(data[: cut or None]))
        except PayloadDamaged:
            return
        assert isinstance(found, bytes | Reference | pl.DataFrame)

    again(holds)
