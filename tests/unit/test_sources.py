"""Reading files, streams and growing files: every line once, and on from where it stopped."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from backports import zstd
from growing import followed, knows
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import SourceChanged, SourceError, SourceLocked, SourceUnavailable
from etl.filesystem import DISK, FileSystem
from etl.queue import Checkpoint, Queue
from etl.records.batch import Batch, Reference, count_lines
from etl.records.context import AS_FOUND, ReadOptions
from etl.runs.registry import recorded
from etl.settings import Settings
from etl.sources.chunks import SourceChunk
from etl.sources.files import FileSource, nothing_known, read_lines_at
from etl.sources.follow import FollowSource
from etl.sources.identity import Claims, Known, PlainText
from etl.sources.ingest import ingest, source_errors
from etl.sources.resolve import NewFiles, resolve_sources
from etl.sources.stream import StreamSource

LINES = b"one\ntwo\r\n\nfour\xff\nlast"

SUFFIXES: dict[str, Callable[[bytes], bytes]] = {
    ".log": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": zstd.compress,
    ".xz": lzma.compress,
}


def text_of(batch: Batch) -> bytes:
    payload = batch.payload
    return payload.read() if isinstance(payload, Reference) else bytes(payload)  # type: ignore[arg-type]


def whole(reads: list[SourceChunk]) -> bytes:
    return b"".join(text_of(read.batch) for read in reads)


def compressed(folder: Path, suffix: str, data: bytes) -> Path:
    path = folder / f"file{suffix}"
    path.write_bytes(SUFFIXES[suffix](data))
    return path


contents = st.lists(
    st.sampled_from([b"a", b"bb\n", b"\n", b"\r\n", b"\xff", b"\x00", b"a line\n"]), max_size=40
).map(b"".join)


@given(data=contents, chunk=st.integers(1, 20), by_reference=st.booleans())
def test_any_file_is_read_whole_in_blocks_of_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, *, data: bytes, chunk: int, by_reference: bool
):
    path = tmp_path_factory.mktemp("any") / "a.log"
    path.write_bytes(data)
    reads = list(FileSource("a.log", path, by_reference=by_reference, chunk=chunk).read())

    assert whole(reads) == data
    assert all(text_of(read.batch).endswith(b"\n") for read in reads[:-1])
    place, number = 0, 0
    for read in reads:
        assert read.batch.first_line == number + 1
        assert read.batch.lines == count_lines(text_of(read.batch)) > 0
        place, number = place + read.size, number + read.batch.lines
        assert (read.checkpoint.offset, read.checkpoint.line_number) == (place, number)


def test_of_a_long_piece_whole_lines_are_read_so_that_none_is_cut_off(tmp_path: Path):
    lines = [f"{number} ".encode() + b"x" * (7 * number % 300) for number in range(4_000)]
    lines[1_500] = b"long " * 60_000
    path = tmp_path / "a.log"
    path.write_bytes(b"\n".join(lines))
    with DISK.open(path) as file:
        text = PlainText(file, 0, DISK)
        pieces = list(iter(lambda: text.read(200_000), b""))

    assert b"".join(pieces) == path.read_bytes()
    cut = [piece for piece in pieces[:-1] if not piece.endswith(b"\n")]
    assert len(cut) < 3
    assert all(b"long long" in piece for piece in cut)


@pytest.mark.parametrize("by_reference", [True, False])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_reading_resumes_from_every_checkpoint(tmp_path: Path, *, suffix: str, by_reference: bool):
    path = compressed(tmp_path, suffix, LINES)
    source = FileSource("a", path, by_reference=by_reference, chunk=3)
    reads = list(source.read())

    assert whole(reads) == LINES
    for count, read in enumerate(reads, start=1):
        rest = list(source.read(knows(read.checkpoint)))
        assert whole(rest) == whole(reads[count:])
        assert [one.batch.first_line for one in rest[:1]] == [
            one.batch.first_line for one in reads[count : count + 1]
        ]
        assert all(one.checkpoint.offset > read.checkpoint.offset for one in rest)


def test_a_plain_file_is_queued_by_reference_and_a_compressed_one_by_content(tmp_path: Path):
    kinds = {
        suffix: type(
            next(FileSource("a", compressed(tmp_path, suffix, LINES)).read()).batch.payload
        )
        for suffix in SUFFIXES
    }
    assert kinds == {".log": Reference, ".gz": bytes, ".bz2": bytes, ".zst": bytes, ".xz": bytes}


def test_a_line_longer_than_a_chunk_is_one_batch(tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 1000 + b"\n" + b"y" * 1000 + b"\n")

    reads = list(FileSource("a", path, chunk=10).read())
    assert [read.batch.lines for read in reads] == [1, 1]
    assert reads[0].size == 1001


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("chunk", [1, 6, 100])
def test_lines_are_read_back_by_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, chunk: int
):
    path = compressed(tmp_path, suffix, LINES)
    (*_, last) = FileSource("a", path).read()
    monkeypatch.setattr("etl.sources.files.CHUNK_BYTES", chunk)

    assert list(read_lines_at(last.checkpoint, [5, 2, 4, 9, 2, 0])) == [
        (2, 4, b"two\r"),
        (4, 10, b"four\xff"),
        (5, 16, b"last"),
    ]
    assert list(read_lines_at(last.checkpoint, [])) == []


def test_lines_of_a_file_that_was_replaced_are_not_read_back(tmp_path: Path):
    path = compressed(tmp_path, ".log", LINES)
    (*_, last) = FileSource("a", path).read()
    path.write_bytes(b"another file, not shorter than the first")

    with pytest.raises(SourceChanged, match="not the file that was read"):
        list(read_lines_at(last.checkpoint, [1]))


def test_an_empty_file_has_no_batches(tmp_path: Path):
    path = tmp_path / "a.log"
    path.touch()

    assert list(FileSource("a", path).read()) == []


def test_a_file_that_has_grown_is_read_from_where_it_ended(tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    source = FileSource("a", path)
    *_, last = source.read()
    with path.open("ab") as file:
        file.write(b"two\n")

    (read,) = source.read(knows(last.checkpoint))
    assert (text_of(read.batch), read.batch.first_line) == (b"two\n", 2)


@pytest.mark.parametrize("new", [b"ONE\ntwo\nthree\n", b"on"])
def test_another_file_of_the_same_name_is_read_from_its_start(tmp_path: Path, new: bytes):
    path = tmp_path / "a.log"
    path.write_bytes(b"one\ntwo\n")
    source = FileSource("a", path)
    *_, last = source.read()
    path.write_bytes(new)

    assert whole(list(source.read(knows(last.checkpoint)))) == new


def test_a_batch_says_its_source_and_format(tmp_path: Path):
    path = compressed(tmp_path, ".gz", LINES)

    batch = next(FileSource("named", path, ReadOptions(format="json")).read()).batch
    assert (batch.source, batch.format) == ("named", "json")


def test_a_file_that_goes_away_is_an_error(tmp_path: Path):
    with pytest.raises(SourceError, match="'gone' cannot be read: No such file or directory"):
        list(FileSource("gone", tmp_path / "gone.log").read())


# What the user names


def names(*given: str) -> list[str]:
    return [source.name for source in resolve_sources(given)]


def test_a_folder_stands_for_all_its_files_that_are_not_hidden(tmp_path: Path):
    for name in ("b.log", "a.log", ".hidden", "deep/c.log", ".git/d.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert names(str(tmp_path)) == [
        str(tmp_path / name) for name in ("a.log", "b.log", "deep/c.log")
    ]


def test_what_etl_wrote_and_hidden_files_are_passed_over_and_counted(tmp_path: Path):
    with recorded("a-run", folder=tmp_path / "runs"):
        pass
    own = ("runs/a-run/out/1.parquet", "runs/a-run/store.db", ".hidden")
    for name in (*own, "a.log", "runs/b.log", "mine/run.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")

    found = resolve_sources([str(tmp_path)])
    assert [source.name for source in found] == [
        str(tmp_path / name) for name in ("a.log", "mine/run.json", "runs/b.log")
    ]
    assert found.skipped == len(own) + 1, "and the record itself"
    assert resolve_sources([str(tmp_path / "runs" / "a-run" / "out")]).skipped == 0


def test_a_folder_with_nothing_but_what_etl_wrote_is_an_error(tmp_path: Path):
    with recorded("a-run", folder=tmp_path):
        pass
    with pytest.raises(SourceError, match="no files to read; passed over 1 file: hidden, or wri"):
        resolve_sources([str(tmp_path)])


def test_a_glob_stands_for_the_files_that_match(tmp_path: Path):
    for name in ("a.log", "b.txt", "deep/c.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert names(f"{tmp_path}/*.log") == [str(tmp_path / "a.log")]
    assert len(names(f"{tmp_path}/**/*.log")) == 2


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path):
    path = tmp_path / "a[1].log"
    path.touch()

    assert names(str(path)) == [str(path)]


def test_a_dash_stands_for_standard_input():
    (source,) = resolve_sources(["-"], ReadOptions(format="json"))

    assert isinstance(source, StreamSource)
    assert (source.name, source.options.format) == ("stdin", "json")


def test_files_are_followed_if_that_is_asked_for(tmp_path: Path):
    (tmp_path / "a.log").touch()

    (source,) = resolve_sources([str(tmp_path / "a.log")], follow=threading.Event())
    assert isinstance(source, FollowSource)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.log", "there is no file 'no.log'; name files, folders, globs, or - for stdin"),
        ("*.no", "no file matches '*.no'; name files, folders, globs, or - for stdin"),
        ("empty", "folder 'empty' holds no files"),
    ],
)
def test_a_name_that_stands_for_nothing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()

    with pytest.raises(SourceError) as caught:
        resolve_sources([name])
    assert str(caught.value) == message


@pytest.mark.parametrize("follow", [None, threading.Event()])
def test_a_file_and_links_to_it_are_read_once(tmp_path: Path, follow: threading.Event | None):
    (tmp_path / "b.log").write_text("one\n")
    (tmp_path / "a.log").symlink_to(tmp_path / "b.log")
    (tmp_path / "c.log").hardlink_to(tmp_path / "b.log")

    (source,) = resolve_sources([str(tmp_path)], follow=follow)
    # a link may come to name another file, which is to be followed then
    assert source.path.name == ("a.log" if follow else "b.log")


def test_what_is_compressed_in_a_folder_that_is_followed_is_read_once(tmp_path: Path):
    (tmp_path / "a.log").write_text("one\n")
    (tmp_path / "a.log.1.gz").write_bytes(gzip.compress(b"old\n"))

    kinds = [type(one) for one in resolve_sources([str(tmp_path)], follow=threading.Event())]
    assert kinds == [FollowSource, FileSource]


def test_files_that_appear_where_it_is_followed_are_found_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder, stop = tmp_path / "logs", threading.Event()
    (folder / "sub").mkdir(parents=True)
    (folder / "a.log").write_text("one\n")
    names = [str(folder), str(tmp_path / "*.txt"), "journald://?_PID=1", str(folder / "a.log")]
    read = [*resolve_sources([str(folder)], follow=stop)]
    new = NewFiles(names, AS_FOUND, stop, Claims())
    assert list(new.look(read)) == []

    (folder / "a.log").rename(folder / "a.log.1")  # whoever follows a.log goes on with it
    (folder / "a.log").write_text("two\n")
    (folder / "link.log").symlink_to(folder / "a.log")
    (folder / "a-2.log").write_text("one\n")  # it looks like one that was rotated, and is none
    (folder / "sub" / "b.log").write_text("b\n")
    (folder / ".hidden").write_text("c\n")
    (folder / "d.bin").write_bytes(b"\x7fELF" + bytes(100))
    (folder / "e.log.gz").write_bytes(gzip.compress(b"e\n"))
    (folder / "f\udcff.log").write_text("f\n")
    (tmp_path / "g.txt").write_text("g\n")
    found = list(new.look(read))
    assert [(type(one), one.path.name) for one in found] == [
        (FollowSource, "a-2.log"),
        (FileSource, "e.log.gz"),
        (FollowSource, "b.log"),
        (FollowSource, "g.txt"),
    ]
    assert list(new.look([*read, *found])) == []
    rest = [one for one in found if isinstance(one, FollowSource)]
    assert list(new.look([*read, *rest])) == []  # what is compressed is not read again
    assert [one.path.name for one in new.look([*read, *rest[:2]])] == ["g.txt"]  # it had ended
    (folder / "e.log.gz").write_bytes(gzip.compress(b"e\nmore\n"))  # it was half there
    assert [one.path.name for one in new.look([*read, *rest])] == ["e.log.gz"]
    assert len(caplog.messages) == 1
    assert "a name that is not UTF-8" in caplog.messages[0]
    assert not NewFiles(names[2:], AS_FOUND, stop, Claims())


def test_a_file_that_is_to_be_followed_may_come_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    stop, names = threading.Event(), [str(tmp_path / "a.log"), str(tmp_path / "b*.log")]
    assert resolve_sources(names, follow=stop) == []
    assert caplog.messages == [
        f"there is no file {names[0]!r} yet; waiting for one",
        f"no file matches {names[1]!r} yet; waiting for one",
    ]
    new = NewFiles(names, AS_FOUND, stop, Claims())
    assert list(new.look([])) == []
    for name in ("a.log", "b1.log"):
        (tmp_path / name).write_text("one\n")
    found = list(new.look([]))
    assert [(type(one), one.path.name) for one in found] == [
        (FollowSource, "a.log"),
        (FollowSource, "b1.log"),
    ]
    assert list(new.look(found)) == []
    for name in ("no/a.log", "no/*.log"):
        with pytest.raises(SourceError, match="no/"):
            resolve_sources([str(tmp_path / name)], follow=stop)


# What is out of proportion


def test_a_line_over_the_limit_is_cut_in_the_same_places_wherever_reading_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(Settings, "max_line_bytes", 10)
    data = b"one\n" + b"0123456789" * 3 + b"abc\ntwo\n" + b"x" * 10 + b"\n" + b"y" * 11
    path = tmp_path / "a.log"
    path.write_bytes(data)
    pieces = [b"0123456789"] * 3 + [b"abc"]
    expected = [b"one", *pieces, b"two", b"x" * 10, b"y" * 10, b"y"]
    for chunk in (1, 3, 7, 100):
        reads = list(FileSource("a.log", path, chunk=chunk).read())
        assert whole(reads) == data
        assert sum(read.batch.lines for read in reads) == len(expected)
        lines = [line for read in reads for line in text_of(read.batch).splitlines()]
        assert lines == expected
        for read in reads[:-1]:
            rest = list(FileSource("a.log", path, chunk=2).read(knows(read.checkpoint)))
            assert [line for one in rest for line in text_of(one.batch).splitlines()] == (
                expected[read.checkpoint.line_number :]
            )
    numbered = [(line, data) for line, _, data in read_lines_at(reads[-1].checkpoint, range(1, 20))]
    assert numbered == list(enumerate(expected, start=1))
    assert "'a.log': line 2 is longer than 10 bytes and is cut into pieces" in caplog.messages
    with stream(data) as source:
        reads = list(source.read())
    assert [line for read in reads for line in text_of(read.batch).splitlines()] == expected


def test_a_small_file_with_a_giant_text_is_refused_once_it_is_out_of_proportion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("etl.sources.opening.ALWAYS_EXPANDED", 1 << 20)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"a\n" * (10 << 20)))
    reads = FileSource("bomb.gz", path).read()
    with pytest.raises(
        SourceError, match=r"'bomb.gz' cannot be read to its end: its text is more than 1,000 "
    ):
        list(reads)


def test_a_sparse_file_is_passed_over_in_a_folder_and_refused_by_its_name(tmp_path: Path):
    (tmp_path / "a.log").write_text("one\n")
    (tmp_path / "lastlog").touch()
    os.truncate(tmp_path / "lastlog", 1 << 40)
    found = resolve_sources([str(tmp_path)])
    assert ([one.path.name for one in found], found.skipped_binary) == (["a.log"], 1)
    with pytest.raises(SourceError, match="looks like a sparse file, not like text"):
        resolve_sources([str(tmp_path / "lastlog")])


@pytest.mark.parametrize("cut", [5, 40])
def test_what_can_be_read_of_a_damaged_file_is_put_and_its_error_said(
    queue: Queue, tmp_path: Path, cut: int
):
    lines = [f"line {number} {hash(str(number))}" for number in range(500)]
    data = gzip.compress("".join(f"{line}\n" for line in lines).encode())[:-cut]
    path = tmp_path / "a.gz"
    path.write_bytes(data)
    for _ in range(2):
        with pytest.raises(
            SourceError, match="'a' cannot be read to its end: Compressed file ended"
        ):
            list(ingest(queue, FileSource("a", path)))
    found = queue.peek(1000)["line"].to_list()
    assert found == lines[: len(found)]
    assert len(found) > 450


# Into a queue


def test_a_source_that_was_fed_adds_nothing_when_it_is_fed_again(queue: Queue, tmp_path: Path):
    path = compressed(tmp_path, ".log", LINES)
    for _ in range(3):
        list(ingest(queue, FileSource("a", path, chunk=4)))
    assert queue.stats().accepted == count_lines(LINES)

    list(ingest(queue, FileSource("a", path), reread=True))
    assert queue.stats().accepted == 2 * count_lines(LINES)


def test_an_ingest_that_was_broken_off_resumes_where_it_stopped(queue: Queue, tmp_path: Path):
    path = compressed(tmp_path, ".gz", LINES)
    source = FileSource("a", path, chunk=4)
    first = next(ingest(queue, source))
    rest = list(ingest(queue, source))

    assert whole([first, *rest]) == LINES
    assert queue.stats().accepted == count_lines(LINES)
    assert queue.peek()["line_number"].to_list() == [1, 2, 3, 4, 5]


def test_a_stream_has_no_position(queue: Queue):
    with stream(b"one\ntwo\n") as source:
        list(ingest(queue, source))

    assert queue.stats().accepted == 2
    assert queue.read("checkpoints") == []


def renamed(path: Path) -> Path:
    return path.rename(path.with_name("b.log"))


def copied_and_cut(path: Path) -> Path:
    shutil.copy(path, path.with_name("a.log.1"))
    path.write_bytes(b"new\n" * 9)
    return path


def compressed_away(path: Path) -> Path:
    path.with_name("a.log.1.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return path


@pytest.mark.parametrize("change", [renamed, copied_and_cut, compressed_away])
def test_bytes_that_were_queued_are_found_where_they_are_now(
    tmp_path: Path, change: Callable[[Path], Path]
):
    path = tmp_path / "a.log"
    path.write_bytes(LINES)
    reads = list(FileSource("a.log", path, chunk=4).read())
    change(path)
    (tmp_path / "another.log").write_bytes(b"0" * 100)

    assert whole(reads) == LINES


def test_bytes_that_are_nowhere_are_an_error(tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_bytes(LINES)
    (read,) = FileSource("a.log", path).read()
    path.write_bytes(b"another file, which is not shorter")
    with pytest.raises(SourceChanged, match=r"bytes 0 to 20 of '.*a.log' are not the bytes that"):
        text_of(read.batch)
    path.unlink()
    with pytest.raises(SourceUnavailable, match=r"a.log' cannot be read on this machine: No such"):
        text_of(read.batch)


class Failing(FileSystem):
    """A disk that cannot read for a while."""

    failures = 3

    def open(self, path: Path, mode: str = "rb") -> BinaryIO:
        if self.failures:
            self.failures -= 1
            raise OSError(5, "Input/output error")
        return super().open(path, mode)


def test_a_follower_that_fails_says_so_tries_again_and_shows_it(
    queue: Queue, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "a.log"
    path.write_text("one\n")
    stop = threading.Event()
    source = FollowSource("a.log", path, stop, poll=0.001, files=Failing())
    shown = []
    for chunk in ingest(queue, source):
        if not chunk.size:
            shown.append(source_errors(queue))
        else:
            stop.set()
    assert [message.partition("; ")[2] for message in caplog.messages] == ["trying again"]
    assert "Input/output error" in caplog.messages[0]
    assert queue.stats().accepted == 1
    assert source_errors(queue) == []


def test_a_follower_that_fails_until_it_is_stopped_ends_with_a_sentence(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, stop = tmp_path / "a.log", threading.Event()
    path.write_text("one\n")
    monkeypatch.setattr("etl.sources.ingest.log.warning", lambda *_: stop.set())
    source = FollowSource("a.log", path, stop, poll=0.001, files=Failing())
    with pytest.raises(SourceError, match=r"^'a.log' cannot be read: Input/output error$"):
        list(ingest(queue, source))


def test_what_fails_on_a_file_that_is_known_is_shown_until_it_can_be_read(
    queue: Queue, tmp_path: Path
):
    path = tmp_path / "a.log"
    path.write_text("one\n")
    list(ingest(queue, FileSource("a.log", path)))
    stop = threading.Event()
    shown = []

    class Watched(Failing):
        def open(self, path: Path, mode: str = "rb") -> BinaryIO:
            shown.append(source_errors(queue))
            return super().open(path, mode)

    source = FollowSource("a.log", path, stop, poll=0.001, files=Watched())
    for _ in ingest(queue, source):
        stop.set()
    assert any("Input/output error" in error for errors in shown for error in errors)
    assert source_errors(queue) == []
    assert queue.stats().accepted == 1


# Streams


class stream:  # noqa: N801 - reads as a verb
    """A stream that ends after some bytes."""

    def __init__(self, data: bytes) -> None:
        handle, self.end = os.pipe()
        self.file = os.fdopen(handle, "rb")
        self.thread = threading.Thread(target=self.write, args=(data,))

    def write(self, data: bytes) -> None:
        with os.fdopen(self.end, "wb") as file:
            file.write(data)

    def __enter__(self) -> StreamSource:
        self.thread.start()
        return StreamSource("pipe", self.file)

    def __exit__(self, *_: object) -> None:
        self.thread.join()
        self.file.close()


@pytest.mark.parametrize("data", [b"", b"one\n", b"one\ntwo", b"\n\n", b"x" * 300_000 + b"\nend\n"])
def test_a_stream_is_read_to_its_end(data: bytes):
    with stream(data) as source:
        reads = list(source.read())

    assert whole(reads) == data
    assert sum(read.batch.lines for read in reads) == count_lines(data)


def test_a_long_stream_is_cut_at_newlines_and_numbered_on():
    data = b"".join(b"%d\n" % number for number in range(2_000_000))
    with stream(data) as source:
        reads = list(source.read())

    assert len(reads) > 1
    assert whole(reads) == data
    numbers = [read.batch.first_line for read in reads]
    assert numbers == [int(text_of(read.batch).split(b"\n", 1)[0]) + 1 for read in reads]


def test_lines_of_a_slow_writer_come_before_it_has_ended():
    handle, end = os.pipe()
    with os.fdopen(handle, "rb") as file, os.fdopen(end, "wb", buffering=0) as writer:
        reads = StreamSource("pipe", file).read()
        writer.write(b"one\nhalf a li")
        first = next(reads)
        writer.write(b"ne\n")
        second = next(reads)
        writer.write(b"no newline")
        writer.close()
        rest = list(reads)

    assert [text_of(read.batch) for read in (first, second, *rest)] == [
        b"one\n",
        b"half a line\n",
        b"no newline",
    ]
    assert [read.batch.first_line for read in (first, second, *rest)] == [1, 2, 3]


# Files that grow


class Follower:
    """A file that is followed in small steps; stopping ends the reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stop = threading.Event()
        self.source = FollowSource("a.log", path, self.stop, poll=0.001, linger=0.01)
        self.reads = self.read()

    def read(self, known: Known = nothing_known) -> Iterator[SourceChunk]:
        return followed(self.source, known)

    def append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def next(self) -> bytes:
        """Return the text that is read next; wait for it."""
        return text_of(next(self.reads).batch)

    def end(self) -> bytes:
        self.stop.set()
        return whole(list(self.reads))


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    return Follower(path)


def test_a_growing_file_is_read_as_it_grows(follower: Follower):
    assert follower.next() == b"one\n"
    follower.append(b"two\nthree\n")
    assert follower.next() == b"two\nthree\n"
    follower.append(b"four\n")

    assert follower.end() == b"four\n"


def test_half_a_line_waits_for_its_newline(follower: Follower):
    follower.append(b"ha")
    assert follower.next() == b"one\n"
    threading.Timer(0.02, follower.append, [b"lf\n"]).start()
    assert follower.next() == b"half\n"

    follower.append(b"never ended")
    assert follower.end() == b""


def test_a_file_that_is_rotated_away_is_read_to_its_end_and_then_the_new_one(follower: Follower):
    assert follower.next() == b"one\n"
    follower.append(b"two\nlast of the old")
    follower.path.rename(follower.path.with_suffix(".1"))
    follower.append(b"new\n")

    assert [follower.next(), follower.next(), follower.next()] == [
        b"two\n",
        b"last of the old",
        b"new\n",
    ]
    assert follower.end() == b""


def test_the_lines_of_a_new_file_are_numbered_from_one(follower: Follower):
    first = next(follower.reads)
    follower.path.unlink()
    follower.append(b"new\n")
    second = next(follower.reads)

    assert (first.batch.first_line, second.batch.first_line) == (1, 1)
    assert second.checkpoint.offset == 4
    follower.end()


def test_a_file_of_a_folder_is_let_go_when_it_is_gone(follower: Follower):
    follower.source = replace(follower.source, ends=True)
    reads = follower.read()
    with follower.path.open("ab") as file:
        assert text_of(next(reads).batch) == b"one\n"
        follower.path.unlink()
        file.write(b"two\n")
        file.flush()
        assert whole(list(reads)) == b"two\n"
    assert not follower.stop.is_set()


def test_of_two_sources_only_one_takes_a_file_that_the_store_does_not_know(tmp_path: Path):
    path = tmp_path / "a.log.1"
    path.write_bytes(b"one\n")
    claims, stop = Claims(), threading.Event()
    known = Checkpoint(str(tmp_path / "a.log"), 0, 0, number=1, file="1:1", host=DISK.host)
    rows = {known.source: [known]}

    def knows(sources: Sequence[str], _file: str) -> list[Checkpoint]:
        return [row for source in sources for row in rows.get(source, [])]

    first = FollowSource("a.log", tmp_path / "a.log", stop, poll=0.001, claims=claims)
    second = FollowSource("a.log.1", path, stop, poll=0.001, claims=claims)
    reads = first.steps(knows)
    taken = next(chunk for chunk in reads if chunk is not None)
    assert (taken.checkpoint.source, taken.checkpoint.number) == (known.source, 2)
    with pytest.raises(SourceLocked, match=r"a\.log\.1' is being read as '.*a\.log'"):
        next(second.steps(nothing_known))
    reads.close()
    assert next(second.steps(nothing_known)) is not None


@pytest.mark.parametrize("ends", [True, False])
def test_what_is_written_to_an_empty_file_may_be_no_text(*, tmp_path: Path, ends: bool):
    path = tmp_path / "a.log"
    path.touch()
    source = FollowSource("a.log", path, threading.Event(), poll=0.001, ends=ends)
    steps = source.steps()
    assert next(steps).size == 0  # it is known
    path.write_bytes(gzip.compress(b"one\n"))
    if ends:  # whoever looks for new files finds it
        assert list(steps) == []
    else:
        with pytest.raises(SourceError, match="is compressed and cannot be followed"):
            list(steps)


def test_an_empty_folder_can_be_followed(tmp_path: Path):
    (tmp_path / ".hidden").touch()
    assert resolve_sources([str(tmp_path)], follow=threading.Event()) == []
    with pytest.raises(SourceError, match="holds no files"):
        resolve_sources([str(tmp_path)])


def test_a_file_that_was_cut_short_is_read_from_its_start(follower: Follower):
    follower.append(b"two\n")
    assert follower.next() == b"one\ntwo\n"
    follower.path.write_bytes(b"new\n")

    assert follower.next() == b"new\n"
    assert follower.end() == b""


def test_a_file_that_is_not_there_yet_is_waited_for(tmp_path: Path):
    follower = Follower(tmp_path / "later.log")
    threading.Timer(0.02, follower.append, [b"one\n"]).start()

    assert follower.next() == b"one\n"
    assert follower.end() == b""


def test_a_name_that_cannot_be_opened_for_a_while_is_waited_for(tmp_path: Path):
    path = tmp_path / "late.log"
    path.mkdir()
    follower = Follower(path)

    def fix() -> None:
        path.rmdir()
        follower.append(b"one\n")

    threading.Timer(0.02, fix).start()
    assert follower.next() == b"one\n"
    assert follower.end() == b""


def test_following_resumes_from_a_checkpoint(follower: Follower):
    checkpoint = next(follower.reads).checkpoint
    follower.end()
    follower.append(b"two\n")
    reread = Follower(follower.path)
    reread.reads = reread.read(knows(checkpoint))

    read = next(reread.reads)
    assert (text_of(read.batch), read.batch.first_line) == (b"two\n", 2)
    assert reread.end() == b""


def test_a_position_in_another_file_is_not_taken(follower: Follower):
    stale = Checkpoint(follower.source.key, 4, 1, "4:0000000000000000")
    follower.append(b"two\n")
    follower.reads = follower.read(knows(stale))

    assert follower.next() == b"one\ntwo\n"
    follower.end()


def test_what_was_written_before_the_stop_is_still_read(follower: Follower):
    assert follower.next() == b"one\n"
    follower.append(b"two\n")

    assert follower.end() == b"two\n"


def test_a_file_whose_name_is_no_text_is_refused_by_name(tmp_path: Path):
    (tmp_path / os.fsdecode(b"odd\xff.log")).write_text("one\n")
    with pytest.raises(SourceError, match=r"odd\\udcff.log' has a name that is not UTF-8"):
        resolve_sources([str(tmp_path)])
