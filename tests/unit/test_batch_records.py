"""What a batch of lines keeps: the text, the odd bytes, the numbers, and where it came from."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from etl.errors import PayloadDamaged, SourceChanged, SourceUnavailable
from etl.execution.records import batch_of, parts_of, records_of
from etl.records.batch import Batch, Lease, Reference, count_lines, decode_payload, new_id
from etl.records.result import BatchResult

plain_lines = st.lists(st.text(st.characters(blacklist_characters="\n\r", codec="utf-8")))
"""Text lines that hold anything but line breaks."""

byte_lines = st.lists(
    st.binary(max_size=40).map(lambda data: data.replace(b"\n", b" ").rstrip(b"\r"))
)
"""Lines of any bytes; carriage returns at the end of a line belong to its line break."""


def text_batch(data: bytes, **options) -> Batch:
    return Batch(lines=count_lines(data), payload=data, source="a.log", **options)


def lines_of(batch: Batch) -> list[str]:
    return batch.frame()["line"].to_list()


def reference_to(path: Path, start: int = 0) -> Reference:
    data = path.read_bytes()
    return Reference(str(path), start, len(data), zlib.crc32(data[start:]))


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"one\n\n\ntwo\n", ["one", "", "", "two"]),
        (b"\n", [""]),
        (b"a\x00b\n", ["a\x00b"]),
        ("a\u2028b\x0bc\x85d\n".encode(), ["a\u2028b\x0bc\x85d"]),
        (b"a\rb\n", ["a\rb"]),
        (b"", []),
    ],
)
def test_text_is_cut_at_newlines_and_nowhere_else(data: bytes, lines: list[str]):
    batch = text_batch(data)

    assert lines_of(batch) == lines
    assert batch.lines == len(lines)


def test_a_frame_tells_where_each_line_is_from():
    frame = text_batch(b"one\ntwo\n", first_line=41).frame()

    assert frame.schema == {"line": pl.String, "line_number": pl.Int64, "source": pl.String}
    assert frame["line_number"].to_list() == [41, 42]
    assert frame["source"].to_list() == ["a.log", "a.log"]


def test_the_frame_of_no_lines_has_the_same_columns():
    assert text_batch(b"").frame().schema == text_batch(b"one\n").frame().schema


def test_invalid_utf8_is_shown_as_escapes_and_kept_as_bytes():
    frame = text_batch(b"good\nb\xffd\n\xc3\xa9\n").frame()

    assert frame["line"].to_list() == ["good", "b\\xffd", "é"]
    assert frame["raw"].to_list() == [None, b"b\xffd", None]


def test_an_odd_line_loses_its_carriage_return_like_any_other():
    frame = text_batch(b"b\xffd\r\ngood\r\n").frame()

    assert frame["line"].to_list() == ["b\\xffd", "good"]
    assert frame["raw"].to_list() == [b"b\xffd", None]


def test_an_escape_that_was_in_the_text_is_not_taken_for_an_odd_byte():
    frame = text_batch(b"a\\xff\na\xff\n").frame()

    assert frame["line"].to_list() == ["a\\xff", "a\\xff"]
    assert frame["raw"].to_list() == [None, b"a\xff"]


def test_from_lines_takes_text_and_bytes_with_or_without_newlines():
    batch = Batch.from_lines(["one\n", b"two\r\n", "three", b"f\xffur", "\udcff"])

    frame = batch.frame()
    assert frame["line"].to_list() == ["one", "two", "three", "f\\xffur", "\\xff"]
    assert frame["raw"].to_list() == [None, None, None, b"f\xffur", b"\xff"]
    assert batch.lines == 5


@pytest.mark.parametrize("text", ["hello", b"hello"])
def test_from_lines_refuses_one_text(text: str | bytes):
    with pytest.raises(TypeError, match="give a list of lines"):
        Batch.from_lines(text)


def test_a_line_with_a_line_break_inside_is_a_record_of_two_lines():
    batch = Batch.from_lines(["one\ntwo", "three"])

    assert (batch.lines, batch.frame().height) == (3, 2)
    assert batch.frame()["line_count"].to_list() == [2, 1]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.integers(1, 8))
def test_parts_of_records_are_whole_records(counts: list[int], count: int):
    counts = [2, *counts]
    batch = Batch.from_lines(["\n".join("x" * lines) for lines in counts])
    starts = [sum(counts[:place]) for place in range(len(counts))]
    parts = batch.parts(count, starts)

    assert len(parts) <= count
    assert sum(part.lines for part in parts) == batch.lines
    frames = [part.frame() for part in parts]
    assert [part.lines for part in parts] == [frame["line_count"].sum() for frame in frames]
    assert pl.concat(frames).equals(batch.frame())


@given(plain_lines)
def test_text_lines_come_back_as_they_were(lines: list[str]):
    batch = Batch.from_lines(lines)
    kept = decode_payload(*batch.encode())

    assert lines_of(replace(batch, payload=kept)) == lines


@given(byte_lines)
def test_the_original_bytes_of_every_line_can_be_had_back(lines: list[bytes]):
    batch = Batch.from_lines(lines)
    frame = replace(batch, payload=decode_payload(*batch.encode())).frame()

    raw = frame["raw"] if "raw" in frame.columns else [None] * frame.height
    assert [odd or line.encode() for line, odd in zip(frame["line"], raw, strict=True)] == lines


@given(st.binary())
def test_counted_lines_are_the_lines_of_the_frame(data: bytes):
    assert count_lines(data) == text_batch(data).frame().height


@given(byte_lines, st.integers(1, 12), st.integers(0, 5))
def test_parts_cover_a_batch_exactly(lines: list[bytes], count: int, skip: int):
    whole = Batch.from_lines([*[b"before"] * skip, *lines])
    whole = replace(whole, skip=skip, lines=len(lines), first_line=skip + 1)
    parts = whole.parts(count)

    joined = pl.concat([part.frame() for part in parts]) if parts else whole.frame()
    assert joined.equals(whole.frame())
    assert len(parts) <= count
    assert sum(part.lines for part in parts) == len(lines)
    assert len({part.id for part in parts} - {whole.id}) == len(parts)
    assert all(part.lines == part.frame().height for part in parts)


def test_parts_of_parts_keep_their_numbers():
    batch = Batch.from_lines([f"line {number}" for number in range(1, 28)])

    smallest = [piece for part in batch.parts(4) for piece in part.parts(3)]
    rows = pl.concat([piece.frame() for piece in smallest])
    assert rows["line_number"].to_list() == list(range(1, 28))
    assert rows["line"].to_list() == [f"line {number}" for number in range(1, 28)]


def test_a_reference_reads_just_its_bytes(tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_bytes(b"one\ntwo\nthree\n")
    reference = Reference(str(path), 4, 8, zlib.crc32(b"two\n"))
    batch = Batch(lines=1, payload=reference, source="a.log", first_line=2)

    assert batch.frame().row(0) == ("two", 2, "a.log")
    assert batch.size == 4


def test_a_reference_whose_bytes_changed_is_refused(tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_bytes(b"one\ntwo\n")
    batch = Batch(lines=2, payload=reference_to(path), source="a.log")
    path.write_bytes(b"one\ntWo\n")

    with pytest.raises(SourceChanged, match=r"bytes 0 to 8 of .*a\.log.* are not the bytes that"):
        batch.frame()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda path: path.unlink(), SourceUnavailable, "cannot be read on this machine"),
        (lambda path: path.write_bytes(b""), SourceChanged, "bytes 0 to 4"),
    ],
)
def test_a_reference_whose_file_is_gone_or_cut_is_refused(tmp_path, change, error, message):
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    reference = reference_to(path)
    change(path)

    with pytest.raises(error, match=message):
        reference.read()


def test_a_file_that_has_grown_keeps_its_references(tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    reference = reference_to(path)
    with path.open("ab") as file:
        file.write(b"two\n")

    assert reference.read() == b"one\n"


@pytest.mark.parametrize(
    ("payload", "encoding"),
    [
        (b"short\n", "text"),
        (b"long\n" * 1000, "zstd"),
        (Reference("/var/log/ü.log", 0, 5, 7), "reference"),
    ],
)
def test_a_payload_is_encoded_as_befits_it_and_comes_back(payload, encoding: str):
    name, data = Batch(lines=1, payload=payload, source="s").encode()

    assert name == encoding
    assert decode_payload(name, data) == payload


@pytest.mark.parametrize(
    "payload",
    [
        "28b52ffd608001bd00008061206c696e65206f662061206c6f670a0100da4c3597",
        "28b52ffd0048bd00008061206c696e65206f662061206c6f670a0100da4c3597",
    ],
    ids=["with its size", "without"],
)
def test_payloads_that_another_zstandard_library_wrote_are_read(payload: str):
    assert decode_payload("zstd", bytes.fromhex(payload)) == b"a line of a log\n" * 40


def test_a_frame_of_replayed_lines_comes_back_with_gaps_and_ids():
    frame = pl.DataFrame({"line": ["a", "b"], "line_number": [3, 9], "dead_letter_id": [70, 71]})
    batch = Batch(lines=2, payload=frame, source="s")
    name, data = batch.encode()

    back = replace(batch, payload=decode_payload(name, data)).frame()
    assert name == "arrow"
    assert back.rows() == [("a", 3, 70, "s"), ("b", 9, 71, "s")]
    assert batch.size == 2


def test_an_unknown_encoding_is_named():
    with pytest.raises(PayloadDamaged, match="cannot be read: its encoding 'pickle' is not known"):
        decode_payload("pickle", b"")


def test_a_lease_of_one_batch_is_that_batch():
    batch = Batch.from_lines(["a"])

    assert batch_of(Lease("t", "w", (batch,), 0.0)) is batch


def test_a_lease_joins_its_batches_under_the_first_id():
    first = Batch.from_lines(["a", b"\xff"], source="s")
    second = replace(Batch.from_lines(["b"], source="s"), first_line=9)
    lease = Lease("t", "w", (first, second), 0.0)

    rows = batch_of(lease).frame()
    assert rows["line"].to_list() == ["a", "\\xff", "b"]
    assert rows["line_number"].to_list() == [1, 2, 9]
    assert rows["raw"].to_list() == [None, b"\xff", None]
    assert (batch_of(lease).id, lease.lines, batch_of(lease).lines) == (first.id, 3, 3)


def test_a_lease_joins_parts_that_share_a_payload():
    parts = Batch.from_lines(["a", "b", "c", "d"]).parts(2)

    joined = batch_of(Lease("t", "w", tuple(parts), 0.0))
    assert joined.frame()["line_number"].to_list() == [1, 2, 3, 4]
    assert lines_of(joined) == ["a", "b", "c", "d"]


def test_ids_sort_by_the_time_they_were_made():
    ids = [new_id() for _ in range(50)]

    assert len(set(ids)) == 50
    assert [one[:14] for one in ids] == sorted(one[:14] for one in ids)


def test_what_a_batch_shows_of_itself_is_short_however_long_its_text_is():
    text = repr(Batch.from_lines(["x" * 1000] * 1000, source="app.log", format="json"))
    assert "1,000 lines of 'app.log'" in text
    assert len(text) < 200


def test_what_a_lease_and_a_result_show_of_themselves_is_short():
    batch = Batch.from_lines(["x" * 1000] * 1000)
    dead = pl.DataFrame({"line": ["x" * 1000] * 1000})

    assert repr(Lease("t1", "worker", (batch,), 0.0)) == "<Lease t1 of worker: 1,000 lines>"
    result = BatchResult(done=2000, dead=1000, dead_letters=dead, seconds=0.5)
    assert repr(result) == "<BatchResult: 2,000 done, 0 filtered, 1,000 dead in 0.5 s>"


LINES = st.lists(
    st.one_of(
        st.binary(max_size=6).map(lambda line: line.replace(b"\n", b"")),
        st.sampled_from([b"", b"\r", b"a\r", b"\xff", b"two\nlines", "déjà vu".encode()]),
    ),
    min_size=1,
    max_size=4,
)


def leased(*batches: Batch) -> Lease:
    return Lease(token=new_id(), worker="w", batches=batches, until=0.0)


@given(st.lists(st.tuples(LINES, st.integers(1, 50), st.booleans()), min_size=1, max_size=6))
def test_batches_that_go_together_are_what_each_of_them_is(parts):
    batches: list[Batch] = []
    for lines, first, split in parts:
        batch = replace(Batch.from_lines(lines, source="app.log"), first_line=first)
        batches += parts_of(leased(batch), 2)[0] if split else [batch]
    alone = [records_of(batch) for batch in batches]
    together = records_of(batch_of(leased(*batches)))
    expected = pl.concat(alone, how="diagonal")
    assert_frame_equal(together.select(expected.columns), expected)
    assert together.width == expected.width


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n", b"\r", b"\xff"])
@pytest.mark.parametrize("start", [b"", b"\n", b"\x1f\x8b", b"x"])
def test_lines_of_long_texts_are_counted_as_those_of_short_ones(
    size: int, end: bytes, start: bytes
):
    data = start + (b"a line\nthe next \xc3\xa9\r\n\0" * (size // 10))[:size] + end
    assert count_lines(data) == data.count(b"\n") + (not data.endswith(b"\n"))
