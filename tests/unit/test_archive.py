"""Files in archives are read as files beside one another would be."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from etl import open_queue
from etl.errors import SourceError
from etl.settings import Settings
from etl.sources import archive as archive_module
from etl.sources.ingest import ingest
from etl.sources.resolve import resolve_sources
from etl.sources.sample import first_lines

PLAIN = {"a.log": b"one\ntwo\n", "var/b.log": b"three\n"}


def tar(files, **entry):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in entry.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped(files, compression=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tar_gz(files):
    return gzip.compress(tar(files), mtime=0)


def tar_xz(files):
    return lzma.compress(tar(files))


@pytest.fixture
def queue(tmp_path: Path):
    queue = open_queue(f"sqlite:///{tmp_path}/s.db")
    yield queue
    assert queue.stats().conserved
    queue.close()


@pytest.fixture
def write(tmp_path: Path):
    def write(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def put(queue, path, **options):
    """Put what is new of an archive; return it, text by member, and the error if there is one."""
    (source,) = resolve_sources([str(path)])
    found: Counter[str] = Counter()
    texts: dict[str, bytes] = {}
    error = ""
    try:
        for chunk in ingest(queue, source, **options):
            name = chunk.batch.source.removeprefix(f"{path}!/")
            found[name] += chunk.batch.lines
            texts[name] = texts.get(name, b"") + chunk.batch.payload
    except SourceError as caught:
        error = str(caught)
    return texts, error


@pytest.mark.parametrize("pack", [tar, tar_gz, tar_xz, zipped])
def test_the_files_of_an_archive_are_read_once(queue, write, pack):
    path = write("old.bin", pack(PLAIN))  # the content says what it is
    assert put(queue, path) == (PLAIN, "")
    assert put(queue, path) == ({}, "")
    assert put(queue, path, reread=True) == (PLAIN, "")


@pytest.mark.parametrize("pack", [tar, tar_gz, zipped])
def test_each_file_is_read_by_its_content(queue, write, pack):
    files = {
        "app.log.1.gz": gzip.compress(b"packed\n"),
        "wide.txt": "wide\n".encode("utf-16"),
        "old.txt": b"cr\rends\r",
        "picture.png": b"\x89PNG\r\n\x1a\n",
        ".hidden": b"no\n",
        "empty": b"",
    }
    texts, error = put(queue, write("a", pack(files)))
    assert error == ""
    assert texts == {"app.log.1.gz": b"packed\n", "wide.txt": b"wide\n", "old.txt": b"cr\nends\n"}


@pytest.mark.parametrize("pack", [tar_gz, zipped])
def test_a_killed_reading_is_resumed_in_the_middle_of_a_file(queue, write, pack, monkeypatch):
    monkeypatch.setattr(archive_module, "CHUNK_BYTES", 1_000)
    files = {f"{n}.log": b"".join(b"%d %d\n" % (n, line) for line in range(900)) for n in range(3)}
    path = write("a", pack(files))
    (source,) = resolve_sources([str(path)])
    reading = ingest(queue, source)
    before = b"".join(next(reading).batch.payload for _ in range(12))
    reading.close()
    texts, error = put(queue, path)
    assert error == ""
    assert before + b"".join(texts.values()) == b"".join(files.values())
    assert queue.stats().accepted == 2_700


@pytest.mark.parametrize("pack", [tar_gz, zipped])
def test_of_an_archive_that_was_made_again_only_what_is_new_is_read(queue, write, pack):
    path = write("a", pack(PLAIN))
    put(queue, path)
    write("a", pack({"a.log": b"one\ntwo\nmore\n", "var/b.log": b"other\n", "c.log": b"c\n"}))
    assert put(queue, path) == ({"a.log": b"more\n", "var/b.log": b"other\n", "c.log": b"c\n"}, "")
    assert put(queue, path) == ({}, "")


def test_a_text_that_begins_alike_is_read_from_its_start(queue, write):
    head = b"the same line\n" * 1_000
    path = write("a", tar({"a": head + b"x\n", "b": b"b\n"}))
    put(queue, path)
    other = {"a": head[:-2] + b"!\n" + b"y\n" * 20}
    write("a", tar(other))
    assert put(queue, path) == (other, "")
    assert put(queue, path) == ({}, "")


def test_an_archive_that_was_renamed_is_not_read_again(queue, write, tmp_path):
    path = write("a.tar", tar(PLAIN))
    put(queue, path)
    path.rename(tmp_path / "b.tar")
    assert put(queue, tmp_path / "b.tar") == ({}, "")


@pytest.mark.parametrize("pack", [tar, tar_gz, tar_xz])
def test_of_an_archive_that_was_cut_the_readable_part_is_taken_and_that_is_said(
    queue, write, pack, monkeypatch
):
    monkeypatch.setattr(archive_module, "CHUNK_BYTES", 500)
    lines = b"".join(b"%d %d\n" % (line, line**5) for line in range(2_000))
    files = {"a.log": lines, "b.log": b"b\n"}
    whole = pack(files)
    path = write("a", whole)
    for share in (0.75, 0.6, 0.3):
        write("a", whole[: int(len(whole) * share)])
        texts, error = put(queue, path, reread=True)
        assert "can only be read in part" in error
        text = b"".join(texts.values())
        assert (lines + b"b\n").startswith(text)
        assert len(text) > 0.5 * share * len(lines)
    write("a", whole)
    put(queue, path, reread=True)
    assert put(queue, path) == ({}, "")


def test_a_tar_that_is_cut_between_two_files_is_not_taken_for_a_whole_one(queue, write):
    first = len(tar({"a.log": b"one\n"}).rstrip(b"\0"))
    path = write("a", tar({"a.log": b"one\n", "b.log": b"two\n"})[: -(-first // 512) * 512])
    texts, error = put(queue, path)
    assert texts == {"a.log": b"one\n"}
    assert "can only be read in part" in error


def test_a_damaged_file_in_a_zip_stops_no_other(queue, write):
    data = bytearray(zipped({f"{name}.log": name.encode() * 99 for name in "abc"}, 0))
    data[data.index(b"bbbb") + 50] ^= 1  # its checksum is another now
    texts, error = put(queue, write("a.zip", bytes(data)))
    assert {"a.log", "c.log"} <= texts.keys()
    assert "can only be read in part: 'b.log': Bad CRC-32" in error


def test_an_encrypted_file_is_said(queue, write):
    data = bytearray(zipped({"a.log": b"a\n"}))
    data[data.index(b"PK\1\2") + 8] |= 1
    assert "'a.log' is encrypted" in put(queue, write("a.zip", bytes(data)))[1]


@pytest.mark.parametrize("pack", [tar, zipped])
def test_names_in_an_archive_are_text_and_no_places(queue, write, tmp_path, pack):
    names = ["../../up.log", "/etc/passwd", "a\nb\x1b[31m", "x" * 5_000 + ".log", "C:\\a.log"]
    before = {*tmp_path.rglob("*")}
    path = write("a", pack(dict.fromkeys(names, b"line\n")))
    texts, error = put(queue, path)
    assert error == ""
    assert "etc/passwd" in texts
    assert max(map(len, texts)) <= 1_001
    assert len(texts) == len(names) - 1  # that of `..` is hidden
    assert {*tmp_path.rglob("*")} - before <= {path, *tmp_path.glob("s.db*")}


@pytest.mark.parametrize("entry", [{"mtime": -5}, {"mtime": 1e300}, {"mtime": float("nan")}])
def test_a_time_that_is_none_is_that_of_the_archive(queue, write, entry):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.log")
        info.size, info.pax_headers = 2, {"mtime": str(entry["mtime"])}
        archive.addfile(info, io.BytesIO(b"a\n"))
    assert put(queue, write("a", out.getvalue())) == ({"a.log": b"a\n"}, "")


@pytest.mark.parametrize("pack", [tar_gz, zipped])
def test_text_out_of_all_proportion_to_the_archive_is_not_read(queue, write, pack, monkeypatch):
    monkeypatch.setattr(Settings, "max_expansion", 2)
    for module in (archive_module, archive_module.opened.__globals__):
        limits = module if isinstance(module, dict) else vars(module)
        monkeypatch.setitem(limits, "ALWAYS_EXPANDED", 100_000)
    path = write("a", pack({f"{n}.log": b"\n" * 60_000 for n in range(5)}))
    texts, error = put(queue, path)
    assert "times as long as the" in error
    assert sum(map(len, texts.values())) <= 120_000


def test_an_archive_without_text_is_said(queue, write):
    assert "holds no text files" in put(queue, write("a", tar({".a": b"x\n"})))[1]


def test_an_archive_is_not_followed_and_a_folder_passes_over_it(write, tmp_path):
    path = write("a.tar", tar(PLAIN))
    with pytest.raises(SourceError, match="looks like a tar archive"):
        resolve_sources([str(path)], follow=object())
    write("b.log", b"b\n")
    found = resolve_sources([str(tmp_path)])
    assert [source.name for source in found] == [str(tmp_path / "b.log")]
    assert found.skipped_binary == 1


def test_the_first_lines_are_those_of_the_first_text(write):
    files = {"a.png": b"\x89PNG\r\n\x1a\n", **PLAIN}
    (source,) = resolve_sources([str(write("a.zip", zipped(files)))])
    assert first_lines(source)[0].to_list() == ["one", "two"]
