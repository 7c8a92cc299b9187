"""Records in the engine: text is cut only between them, and what travels with a batch."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import polars as pl
import pytest
from growing import followed, knows
from hypothesis import given
from hypothesis import strategies as st

from etl import Batch, Count, DeadLetters, Parse, Pipeline, Worker, normalise, open_queue, reject
from etl.errors import UsageError
from etl.execution.records import records_of
from etl.formats import record_start
from etl.records.context import AS_FOUND, Context, ReadOptions
from etl.sources.files import FileSource
from etl.sources.follow import FollowSource
from etl.sources.framing import MAX_HELD, LineBuffer, RecordBuffer, Sample
from etl.sources.ingest import ingest
from etl.sources.stream import StreamSource

TRACE = """\
2026-03-05 10:00:00,000 INFO app: one
2026-03-05 10:00:01,000 ERROR app: two
Traceback (most recent call last):
  File "a.py", line 1, in <module>
ValueError: no
2026-03-05 10:00:02,000 INFO app: three
"""

KINDS = {
    "heads": TRACE,
    "indent": "start\n  more\n  more\nstart again\n  more\n",
    "csv": 'time,level,message\n2026-03-05,INFO,"one\ntwo"\n2026-03-06,WARN,"three\n\nfour"\n',
    "pretty": '[\n  {\n    "message": "a"\n  },\n  {\n    "message": "b"\n  }\n]\n',
    "slow": "# Time: 1\n# User@Host: a\nSELECT 1;\n# User@Host: b\nSELECT 2;\n" * 3,
    "cri": "".join(
        f"2026-03-05T10:00:0{n}.000000000Z {stream} {tag} text {n}\n"
        for n, (stream, tag) in enumerate(
            [("stdout", "F"), ("stdout", "P"), ("stderr", "P"), ("stdout", "F"), ("stderr", "F")]
        )
    ),
}


def chunks(path: Path, chunk: int, options: ReadOptions = AS_FOUND) -> list[Batch]:
    source = FileSource("a.log", path, options, chunk=chunk)
    return [read.batch for read in source.read()]


def records(batches: list[Batch]) -> pl.DataFrame:
    frames = [records_of(batch) for batch in batches]
    return pl.concat(frames, how="diagonal").select("line", "line_number", "line_count")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [1, 7, 64, 200])
def test_no_batch_boundary_cuts_a_record(tmp_path: Path, kind: str, chunk: int):
    path = tmp_path / "a.log"
    path.write_text(KINDS[kind])
    whole = records(chunks(path, 1 << 20))
    assert whole.height < KINDS[kind].count("\n")  # there are records of several lines

    path.write_text(KINDS[kind] * 20)
    (start,) = {batch.context.record_start for batch in chunks(path, 1 << 20)}
    cut = [batch for batch in chunks(path, chunk) if batch.context.record_start == start]
    joined = records(cut)
    expected = records(chunks(path, 1 << 20)).tail(joined.height)
    assert joined.rows() == expected.rows()


@given(
    st.lists(st.sampled_from(["2026-03-05 10:00:00 INFO x\n", "\tat a.b(C.java:1)\n", "\n"])),
    st.integers(1, 40),
)
def test_a_buffer_gives_back_what_it_was_given_cut_where_records_begin(lines: list[str], size: int):
    text = "".join(["2026-03-05 10:00:00 INFO x\n", "\tat first\n", *lines]).encode()
    sample = Sample(ReadOptions(multiline="^2026"), 0.0)
    buffer = RecordBuffer(sample)
    pieces = [
        b"".join(buffer.add(text[place : place + size])) for place in range(0, len(text), size)
    ]
    pieces = [piece for piece in [*pieces, buffer.rest()] if piece]
    assert b"".join(pieces) == text
    assert all(piece.startswith(b"2026") for piece in pieces)


def test_a_record_without_end_is_cut_and_nothing_of_it_is_lost(tmp_path: Path):
    path = tmp_path / "a.log"
    line = b"x" * 99 + b"\n"
    path.write_bytes(b"start\n" + line * (3 * MAX_HELD // 100))
    batches = chunks(path, 1 << 20, ReadOptions(multiline="^start"))
    assert len(batches) > 1
    frames = [records_of(batch) for batch in batches]
    assert sum(frame["line_count"].sum() for frame in frames) == 1 + 3 * MAX_HELD // 100
    assert all(frame["is_cut"].any() for frame in frames if "is_cut" in frame.columns)
    assert any("is_cut" in frame.columns for frame in frames)
    assert "\n".join(line for frame in frames for line in frame["line"]) + "\n" == (
        path.read_text()
    )


@given(
    st.lists(st.text("ab\n", max_size=60).map(str.encode), max_size=5),
    st.integers(1, 20),
)
def test_lines_over_the_limit_alone_are_cut_however_long_the_pieces_are(
    pieces: list[bytes], limit: int
):
    buffer = LineBuffer(limit)
    texts = [text for piece in pieces for text in buffer.add(piece)]
    texts.append(buffer.rest())

    expected: list[bytes] = []
    for line in b"".join(pieces).splitlines(keepends=True):
        while len(line.rstrip(b"\n")) > limit:
            expected.append(line[:limit])
            line = line[limit:]  # noqa: PLW2901
        expected.append(line)
    found = [line for text in texts for line in text.splitlines(keepends=True)]
    assert found == expected


def test_a_piece_that_is_longer_than_a_line_may_be_stays_in_one_text_or_a_few():
    assert len(LineBuffer(100).add(b"short\n" * 1_000)) <= 61


def test_off_is_one_record_a_line(tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_text(TRACE)
    assert records(chunks(path, 1 << 20)).height == 3
    assert records(chunks(path, 1 << 20, ReadOptions(multiline="off"))).height == 6
    verbose = ReadOptions(multiline="(?x) ^ start  # of a record")
    assert records(chunks(path, 1 << 20, verbose)).equals(
        records(chunks(path, 1 << 20, ReadOptions(multiline="^start")))
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"multiline": "("}, r"multiline '\(' is neither auto, off nor a regex: unclosed group$"),
        ({"timezone": "Mars/Olympus"}, "no time zone 'Mars/Olympus'; use an IANA name"),
        ({"year": 1}, "year 1 is not between"),
        ({"unmatched": "drop"}, "unmatched 'drop' is neither keep nor dead"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(given: dict[str, object], said: str):
    with pytest.raises(UsageError, match=said):
        ReadOptions(**given)


def test_a_context_is_kept_as_it_was():
    context = Context(record_start="^é", header="a,b", modified=3600, year=2020, unmatched="dead")
    assert Context.decode(context.encode()) == context
    assert Context().encode() == "{}"


def test_columns_are_named_by_the_head_also_in_later_batches(tmp_path: Path):
    path = tmp_path / "a.csv"
    rows = [f"2026-03-05 10:00:{n % 60:02},INFO,line {n}" for n in range(500)]
    path.write_text("time,level,message\n" + "\n".join(rows) + "\n")
    queue = open_queue("sqlite://")
    list(ingest(queue, FileSource("a.csv", path, chunk=1000)))
    assert queue.stats().waiting_batches > 5
    Worker(queue, Pipeline("p").add("parse", Parse()).add("normal", normalise)).drain()
    found = {row["format"]: row["records"] for row in queue.read("source_formats")}
    assert found == {"csv": 501}
    queue.close()


def test_fields_that_change_in_mid_file_hold_from_there_on_also_after_a_restart(tmp_path: Path):
    path = tmp_path / "a.log"
    one = "#Fields: date time cs-method\n" + "2026-03-05 10:00:00 GET\n" * 50
    two = "#Fields: date time s-port cs-method\n" + "2026-03-05 10:00:01 80 PUT\n" * 50
    path.write_text(one + two)
    source = FileSource("a.log", path, chunk=200)
    reads = list(source.read())
    assert reads[-1].batch.context.header == "#Fields: date time s-port cs-method"
    assert reads[1].batch.context.header == "#Fields: date time cs-method"
    (*_, last) = source.read(knows(reads[-2].checkpoint))
    assert last.batch.context == reads[-1].batch.context


def test_a_year_that_is_missing_is_that_of_the_file(tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_text("Mar  5 10:00:00 host app[1]: hello\n" * 3)
    os.utime(path, (1_600_000_000, 1_600_000_000))  # September 2020
    queue = open_queue("sqlite://")
    list(ingest(queue, FileSource("a.log", path)))
    years = set()

    def look(frame: pl.DataFrame) -> pl.DataFrame:
        years.update(frame["timestamp"].dt.year())
        return reject(frame, pl.lit(value=True), "no", "no")

    pipeline = Pipeline("p").add("parse", Parse()).add("normal", normalise).add("look", look)
    Worker(queue, pipeline).drain()
    os.utime(path)
    assert DeadLetters(queue).replay() == 3
    Worker(queue, pipeline).drain()
    assert years == {2020}
    queue.close()


def test_a_record_is_one_dead_letter_and_its_lines_are_counted(tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_text(TRACE)
    queue = open_queue("sqlite://")
    list(ingest(queue, FileSource("a.log", path)))

    def check(frame: pl.DataFrame) -> pl.DataFrame:
        return reject(frame, pl.col("line").str.contains("ERROR"), "error", "it is an error")

    pipeline = Pipeline("p").add("check", check).add("count", Count("line_count"))
    Worker(queue, pipeline).drain()
    stats = queue.stats()
    assert stats.conserved
    assert (stats.accepted, stats.done, stats.dead) == (6, 2, 4)
    (processor, _) = queue.read("processors")
    assert (processor["received"], processor["emitted"], processor["dead"]) == (6, 2, 4)
    letters = DeadLetters(queue)
    (letter,) = letters.frame().to_dict("records")
    assert (letter["line_number"], letter["lines"]) == (2, 4)
    assert letter["line"] == "\n".join(TRACE.split("\n")[1:5])
    assert letters.replay() == 4
    assert queue.stats().waiting == 4
    Worker(queue, pipeline).drain()
    assert letters.frame().iloc[0]["lines"] == 4
    assert queue.stats().conserved
    queue.close()


def test_unmatched_lines_die_if_that_is_asked_for():
    queue = open_queue("sqlite://")
    lines = ["2026-03-05 10:00:00,000 INFO app: one", "what is this"]
    for unmatched in ("keep", "dead"):
        context = Context(unmatched=unmatched)
        queue.put(Batch.from_lines(lines, source=unmatched, context=context))
    Worker(queue, Pipeline("p").add("parse", Parse()).add("normal", normalise)).drain()
    assert DeadLetters(queue).frame()["source"].tolist() == ["dead"]
    found = {(row["source"], row["format"]): row["records"] for row in queue.read("source_formats")}
    assert found == {
        ("keep", "python"): 1,
        ("keep", "generic"): 1,
        ("dead", "python"): 1,
        ("dead", ""): 1,
    }
    queue.close()


def test_the_last_record_of_a_growing_file_is_whole_after_a_silence(tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_text(TRACE)
    stop = threading.Event()
    reads = followed(FollowSource("a.log", path, stop, poll=0.001))
    first = next(reads)
    assert first.batch.lines == 5  # what comes next may go on with the last line
    second = next(reads)
    assert (second.batch.first_line, second.batch.lines) == (6, 1)
    with path.open("a") as file:
        file.write("2026-03-05 10:00:03,000 ERROR app: four\n")
        file.flush()
        file.write("Traceback (most recent call last):\n  more\n")
    third = next(reads)
    assert records([third.batch])["line_count"].to_list() == [3]
    stop.set()
    assert list(reads) == []


def test_a_pipe_ends_its_last_record():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as file:
        file.write(TRACE + "and more")
    with os.fdopen(reader, "rb") as file:
        batches = [read.batch for read in StreamSource("pipe", file).read()]
    assert sum(batch.lines for batch in batches) == 7
    assert records(batches)["line_count"].to_list() == [1, 4, 2]


def test_the_start_of_a_record_is_found_in_a_sample_of_the_file(tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_text(TRACE)
    (batch,) = chunks(path, 1 << 20)
    assert batch.context.record_start == record_start(pl.Series(TRACE.splitlines()))


def test_a_file_that_grows_is_read_by_when_it_was_changed_last(tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_text("Dec 31 23:59:00 host app[1]: old\n")
    os.utime(path, (1_609_459_000, 1_609_459_000))  # 31 December 2020
    stop = threading.Event()
    reads = followed(FollowSource("a.log", path, stop, poll=0.001))
    first = next(reads)
    with path.open("a") as file:
        file.write("Jan 10 00:00:00 host app[1]: new\n")
    os.utime(path, (1_610_300_000, 1_610_300_000))  # ten days later
    second = next(reads)
    stop.set()
    assert list(reads) == []
    assert [read.batch.context.modified for read in (first, second)] == [
        1_609_459_200,
        1_610_301_600,
    ]


def test_a_time_of_day_is_of_the_day_when_the_file_was_changed(tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_text("23:59:59.500 INFO app started\n00:40:00.250 INFO app goes on\n")
    os.utime(path, (1_709_599_201, 1_709_599_201))  # 2024-03-05 00:40:01
    (batch,) = chunks(path, 1 << 20)
    rows = normalise(Parse()(records_of(batch), batch), batch)
    assert [str(time)[:19] for time in rows["timestamp"]] == [
        "2024-03-04 23:59:59",
        "2024-03-05 00:40:00",
    ]


def test_a_year_that_is_given_is_that_of_the_first_line_also_in_later_batches(tmp_path: Path):
    path = tmp_path / "a.log"
    days = [("Dec", 20), ("Dec", 31), ("Jan", 1), ("Jan", 15), ("Mar", 1)]
    path.write_text("".join(f"{m} {d:2} 10:00:00 host app[1]: x\n" * 20 for m, d in days))
    batches = chunks(path, 300, ReadOptions(year=2019))
    assert len(batches) > 5
    times = [
        time
        for batch in batches
        for time in normalise(Parse()(records_of(batch), batch), batch)["timestamp"]
    ]
    assert [f"{time:%Y-%m-%d}" for time in times[::20]] == [
        "2019-12-20",
        "2019-12-31",
        "2020-01-01",
        "2020-01-15",
        "2020-03-01",
    ]
