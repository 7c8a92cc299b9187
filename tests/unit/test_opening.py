"""How a file is read is found in its bytes: compression, encoding, line ends, or no text at all."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import random
import sqlite3
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from backports import zstd
from growing import knows
from hypothesis import assume, given
from hypothesis import strategies as st

from etl.errors import SourceChanged, SourceError
from etl.queue import Checkpoint
from etl.records.batch import Reference
from etl.sources.archive import ArchiveSource
from etl.sources.chunks import SourceChunk
from etl.sources.files import FileSource, nothing_known, read_lines_at
from etl.sources.identity import signature_of
from etl.sources.opening import BLOCK_BYTES, HEAD_BYTES, Kind, look_at, opened
from etl.sources.resolve import passed_over, resolve_sources

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstandard": zstd.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}

BOMS = {
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


def text_of(read: SourceChunk) -> bytes:
    payload = read.batch.payload
    assert not isinstance(payload, pl.DataFrame)
    return payload.read() if isinstance(payload, Reference) else payload


def read(path: Path, since: Checkpoint | None = None, chunk: int = 1 << 20) -> bytes:
    known = knows(since) if since else nothing_known
    return b"".join(map(text_of, FileSource("a", path, chunk=chunk).read(known)))


def written(folder: Path, data: bytes, name: str = "a.log") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def noise(lines: int) -> bytes:
    """Return lines that compress badly."""
    return b"".join(b"%d %d\n" % (number, number**7) for number in range(lines))


# Compression


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("name", ["app.log", "app.gz", "app"])
def test_a_compressed_file_is_found_by_its_bytes(tmp_path: Path, kind: str, name: str):
    path = written(tmp_path, COMPRESS[kind](b"one\ntwo\n"), name)

    assert read(path) == b"one\ntwo\n"
    assert look_at(path).converted == "compressed"


@pytest.mark.parametrize("name", ["a.gz", "a.bz2", "a.zst", "a.xz"])
@pytest.mark.parametrize(
    "text", [b"plain text\n", b"BZh9 is a name\n", b"(\xb5/ x\n", b"\x1f\x8b no gzip\n"]
)
def test_plain_text_under_the_name_of_a_compressed_file_is_read_as_it_is(
    tmp_path: Path, name: str, text: bytes
):
    path = written(tmp_path, text, name)
    (chunk,) = FileSource("a", path).read()

    assert isinstance(chunk.batch.payload, Reference)
    assert text_of(chunk) == text


@pytest.mark.parametrize("kind", COMPRESS)
def test_compressed_files_that_were_joined_are_read_to_the_end(tmp_path: Path, kind: str):
    parts = [b"", noise(9000), b"", b"last\n"]
    path = written(tmp_path, b"".join(map(COMPRESS[kind], parts)))

    assert read(path, chunk=10_000) == b"".join(parts)


def test_zstandard_data_after_a_frame_to_skip_is_read(tmp_path: Path):
    skipped = b"\x50\x2a\x4d\x18" + b"\4\0\0\0size"
    assert read(written(tmp_path, skipped + zstd.compress(b"one\n"))) == b"one\n"


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("lines", [10, 20_000])
def test_a_compressed_file_that_was_cut_is_an_error_when_it_is_read(
    tmp_path: Path, kind: str, lines: int
):
    data = COMPRESS[kind](noise(lines))
    path = written(tmp_path, data[: len(data) // 2])
    (source,) = resolve_sources([str(path)])

    with pytest.raises(SourceError, match=r"a.log' cannot be read to its end: "):
        list(source.read())


@pytest.mark.parametrize("kind", COMPRESS)
def test_compressed_data_that_is_broken_is_an_error_when_it_is_read(tmp_path: Path, kind: str):
    data = bytearray(COMPRESS[kind](noise(20_000)))
    middle = len(data) // 2
    data[middle : middle + 100] = bytes(100)
    (source,) = resolve_sources([str(written(tmp_path, bytes(data)))])

    with pytest.raises(SourceError, match=r"a.log' cannot be read to its end: "):
        list(source.read())


# Encodings


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("encoding", BOMS)
def test_utf_16_and_32_are_read_as_utf_8_and_queued_by_content(
    tmp_path: Path, encoding: str, compress: Callable[[bytes], bytes]
):
    text = "café 😀\r\n\nlast\n"
    path = written(tmp_path, compress(BOMS[encoding] + text.encode(encoding)))
    (chunk,) = FileSource("a", path).read()

    assert chunk.batch.payload == text.encode()
    assert (chunk.batch.lines, chunk.checkpoint.offset) == (3, len(text.encode()))


def test_a_long_utf_16_file_is_decoded_across_its_blocks(tmp_path: Path):
    text = "".join(f"{number} 😀 é\n" for number in range(BLOCK_BYTES // 8))
    path = written(tmp_path, b"\xff\xfe" + b" \0" + text.encode("utf-16-le"))

    assert path.stat().st_size > 2 * BLOCK_BYTES
    assert read(path, chunk=10_000) == b" " + text.encode()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xff\xfea\0\n\0b", b"a\n\\x62"),
        (b"\xff\xfea\0\x3d\xd8b\0", b"a\\x3d\\xd8b"),
        (b"\xff\xfea\0\x3d\xd8", b"a\\x3d\\xd8"),
        (b"\xfe\xff\0a\0", b"a\\x00"),
        (b"\xff\xfe\0\0a\0\0\0\xff\xff\xff\xff", b"a\\xff\\xff\\xff\\xff"),
        (b"\xff\xfe", b""),
    ],
    ids=["odd end", "half a pair", "half a pair at the end", "big-endian", "UTF-32", "only a mark"],
)
def test_bytes_that_cannot_be_decoded_are_shown(tmp_path: Path, data: bytes, text: bytes):
    assert read(written(tmp_path, data)) == text


@pytest.mark.parametrize("data", [b"\xef\xbb\xbfa\n", b"a\0\n\0", b"a\0\0\nb\xff\xfe\n"])
def test_a_byte_order_mark_of_utf_8_and_nul_bytes_stay(tmp_path: Path, data: bytes):
    path = written(tmp_path, data)

    assert read(path) == data
    assert look_at(path).plain


def test_the_text_of_a_file_can_be_sought(tmp_path: Path):
    path = written(tmp_path, "oné\ntwo\n".encode("utf-16"))
    with opened(path) as (file, _):
        assert (file.read(6), file.tell()) == ("oné\nt".encode(), 6)
        assert (file.seek(0), file.read()) == (0, "oné\ntwo\n".encode())
        assert (file.seek(5), file.read()) == (5, b"two\n")
        assert (file.seek(100), file.read()) == (9, b"")
        with pytest.raises(io.UnsupportedOperation):
            file.seek(0, os.SEEK_END)


# Line ends


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"one\rtwo\xff\r\rlast", b"one\ntwo\xff\n\nlast"),
        (b"one\rtwo\r", b"one\ntwo\n"),
        ("one\rtwo\r".encode("utf-16"), b"one\ntwo\n"),
        (gzip.compress(b"one\rtwo\r", mtime=0), b"one\ntwo\n"),
        (gzip.compress("one\rtwo\r".encode("utf-16"), mtime=0), b"one\ntwo\n"),
    ],
)
def test_cr_is_the_newline_of_a_file_without_any_other(tmp_path: Path, data: bytes, text: bytes):
    assert read(written(tmp_path, data)) == text


@pytest.mark.parametrize(
    "data",
    [b"one\r\ntwo\r\n", b"10 %\r20 %\rdone\n", b"x" * (HEAD_BYTES - 1) + b"\r\ny\r\n", b"half\r"],
    ids=["CRLF", "a CR in a line", "CRLF across the end of the head", "half a CRLF"],
)
def test_cr_stays_where_there_are_newlines(tmp_path: Path, data: bytes):
    path = written(tmp_path, data)

    assert read(path) == data
    assert look_at(path).plain


# Reading on, and reading back


CONVERTED = {
    "UTF-16": "oné\n\ntwo\nlast".encode("utf-16"),
    "UTF-32": "oné\n\ntwo\nlast".encode("utf-32"),
    "CR": "oné\r\rtwo\rlast".encode(),
    "xz": lzma.compress("oné\n\ntwo\nlast".encode()),
    "gzip of UTF-16 with CR": gzip.compress("oné\r\rtwo\rlast".encode("utf-16"), mtime=0),
}


@pytest.mark.parametrize("kind", CONVERTED)
def test_reading_resumes_from_every_checkpoint(tmp_path: Path, kind: str):
    source = FileSource("a", written(tmp_path, CONVERTED[kind]), chunk=3)
    reads = list(source.read())

    assert b"".join(map(text_of, reads)) == "oné\n\ntwo\nlast".encode()
    assert len(reads) == 2
    for count, one in enumerate(reads, start=1):
        rest = list(source.read(knows(one.checkpoint)))
        assert [(text_of(chunk), chunk.batch.first_line, chunk.checkpoint) for chunk in rest] == [
            (text_of(chunk), chunk.batch.first_line, chunk.checkpoint) for chunk in reads[count:]
        ]


def test_reading_resumes_far_inside_a_long_file(tmp_path: Path):
    text = "".join(f"{number} é\n" for number in range(BLOCK_BYTES))
    source = FileSource("a", written(tmp_path, text.encode("utf-16")), chunk=700_001)
    reads = list(source.read())
    assert len(reads) > 3
    rest = b"".join(map(text_of, source.read(knows(reads[1].checkpoint))))

    assert rest == text.encode()[reads[1].checkpoint.offset :]


def test_what_was_added_to_a_utf_16_file_is_read(tmp_path: Path):
    path = written(tmp_path, "one\n".encode("utf-16"))
    (chunk,) = FileSource("a", path).read()
    with path.open("ab") as file:
        file.write("twö\n".encode("utf-16-le" if sys.byteorder == "little" else "utf-16-be"))

    assert read(path, chunk.checkpoint) == "twö\n".encode()


@pytest.mark.parametrize("kind", CONVERTED)
def test_lines_are_read_back_by_their_numbers(tmp_path: Path, kind: str):
    *_, chunk = FileSource("a", written(tmp_path, CONVERTED[kind])).read()

    assert list(read_lines_at(chunk.checkpoint, [4, 1, 3])) == [
        (1, 0, "oné".encode()),
        (3, 6, b"two"),
        (4, 10, b"last"),
    ]


def test_an_offset_in_the_bytes_is_not_taken_for_one_in_the_text(tmp_path: Path):
    path = written(tmp_path, gzip.compress(b"one\n" * 100, mtime=0))
    with path.open("rb") as file:  # as it was read while only names told compressed files
        old = Checkpoint(str(path), 30, 2, signature_of(file, 30))

    assert read(path, old) == b"one\n" * 100
    with pytest.raises(SourceChanged):
        list(read_lines_at(old, [1]))


def test_a_file_whose_newline_came_later_is_read_again_as_its_lines_are_others(tmp_path: Path):
    path = written(tmp_path, b"10 %\r20 %\r")
    (chunk,) = FileSource("a", path).read()
    path.write_bytes(b"10 %\r20 %\rdone\n")

    assert read(path, chunk.checkpoint) == b"10 %\r20 %\rdone\n"
    with pytest.raises(SourceChanged):
        list(read_lines_at(chunk.checkpoint, [1]))


@given(
    text=st.text(st.sampled_from("a\r\né😀\0"), max_size=30),
    encoding=st.sampled_from(sorted(BOMS)),
    chunk=st.integers(1, 9),
)
def test_any_text_comes_out_of_any_encoding(
    tmp_path_factory: pytest.TempPathFactory, text: str, encoding: str, chunk: int
):
    data = BOMS[encoding] + text.encode(encoding)
    assume(encoding[:6] == "utf-32" or not data.startswith(codecs.BOM_UTF32_LE))
    path = written(tmp_path_factory.mktemp("any"), data)
    cr = "\r" in text[:-1] and "\n" not in text
    assert read(path, chunk=chunk) == (text.replace("\r", "\n") if cr else text).encode()


# Files that are not text


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("a.log")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"one\n"))
    return out.getvalue()


def jar() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.log", "one\n")
    return out.getvalue()


def frame(write: Callable[[pl.DataFrame, io.BytesIO], object]) -> bytes:
    out = io.BytesIO()
    write(pl.DataFrame({"a": ["one"]}), out)
    return out.getvalue()


def database() -> bytes:
    with sqlite3.connect(":memory:") as db:
        db.execute("CREATE TABLE a (b)")
        data = db.serialize()
    db.close()
    return data


NOT_TEXT = {
    "a ZIP or JAR archive": jar(),
    "a tar archive": tar(),
    "a tar archive, compressed with gzip": gzip.compress(tar(), mtime=0),
    "a tar archive, compressed with xz": lzma.compress(tar()),
    "gzip data, compressed with zstandard": zstd.compress(gzip.compress(b"one\n", mtime=0)),
    "a 7z archive": b"7z\xbc\xaf\x27\x1c\0\4",
    "a systemd journal": b"LPKSHHRH" + bytes(100),
    "a Windows event log": b"ElfFile\0" + bytes(100),
    "a packet capture": b"\xd4\xc3\xb2\xa1\2\0\4\0" + bytes(16),
    "a Parquet file": frame(pl.DataFrame.write_parquet),
    "an Arrow file": frame(pl.DataFrame.write_ipc),
    "an SQLite database": database(),
    "a PDF document": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "an ELF program": Path("/bin/sh").read_bytes(),
    "a Java class or a macOS program": b"\xca\xfe\xba\xbe\0\0\0\x41",
    "a PNG image": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "a JPEG image": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    "a GIF image": b"GIF89a\1\0\1\0",
    "binary data": bytes(range(1, 40)) * 10,
    "binary data, compressed with bzip2": bz2.compress(b"\1\2\3ab" * 100),
}


@pytest.mark.parametrize("looks", NOT_TEXT)
def test_a_binary_file_that_is_named_is_refused_with_what_it_looks_like(tmp_path: Path, looks: str):
    path = written(tmp_path, NOT_TEXT[looks])

    if look_at(path).archive:  # which stands for the files in it
        assert isinstance(resolve_sources([str(path)])[0], ArchiveSource)
    else:
        with pytest.raises(SourceError) as caught:
            resolve_sources([str(path)])
        said = str(caught.value)
        assert said.startswith(f"{str(path)!r} looks like {looks}, not like text")
    with pytest.raises(SourceError, match=r"^'mine' looks like "):
        list(FileSource("mine", path).read())


def test_the_refusal_of_a_binary_file_says_the_next_step(tmp_path: Path):
    says = {}
    for looks in ("a tar archive", "a systemd journal", "a PNG image", "binary data"):
        says[looks] = look_at(written(tmp_path, NOT_TEXT[looks])).binary.split(", ", 1)[1]

    assert says == {
        "a tar archive": "not like text; unpack it and name the files in it",
        "a systemd journal": "not like text; name it as a URL: journald:///path/of/it",
        "a PNG image": "not like text; name a text file",
        "binary data": "not like text: 67% of its first bytes are control characters; "
        "name a text file",
    }


TEXT = {
    "NUL after a crash": b"one\n" + bytes(50_000) + b"two\n",
    "only NUL": bytes(5000),
    "invalid UTF-8": bytes(range(0x80, 0x100)) * 10,
    "colours": b"\x1b[31mred\x1b[0m\n" * 10,
    "tabs and page breaks": b"\t\f\r\n" * 10,
    "FIX": b"8=FIX.4.4\x019=5\x0135=0\x0134=1\x0154=1\x0110=011\x01\n",
    "30 % control characters": b"\1\2\3abcdefg" * 10,
    "names that are magic": b"PK\nPAR1 is up\n7z\nRar!\nMZ\nARROW1\nustar\n",
    "a tar's name elsewhere": b" " * 200 + b"ustar\0 is here\n",
    "UTF-16": "\x01\x02\n".encode("utf-16"),
    "nothing": b"",
}


@pytest.mark.parametrize("kind", TEXT)
def test_odd_text_is_not_binary(tmp_path: Path, kind: str):
    path = written(tmp_path, TEXT[kind])

    assert look_at(path).binary == ""
    assert len(resolve_sources([str(path)])) == 1


def test_random_bytes_are_binary(tmp_path: Path):
    for seed in range(20):
        path = written(tmp_path, random.Random(seed).randbytes(3000))
        assert "looks like binary data" in look_at(path).binary


def test_control_characters_of_more_than_a_third_are_binary_whatever_the_nuls(tmp_path: Path):
    path = written(tmp_path, b"\1\2\3\4abcdefg" + bytes(1000))
    assert "36% of its first bytes are control characters" in look_at(path).binary


def test_only_the_head_of_a_file_says_what_it_is(tmp_path: Path):
    text = b"a line\n" * (HEAD_BYTES // 7 + 1)
    path = written(tmp_path, text + b"\1" * 10 * HEAD_BYTES)

    assert look_at(path).binary == ""


def test_binary_files_of_a_folder_are_passed_over_and_counted_apart(tmp_path: Path):
    for name, data in {"a.log": b"one\n", "b.png": NOT_TEXT["a PNG image"], ".c": b""}.items():
        written(tmp_path, data, name)
    written(tmp_path, NOT_TEXT["a tar archive, compressed with gzip"], "d.log")
    found = resolve_sources([str(tmp_path)])

    assert [source.name for source in found] == [str(tmp_path / "a.log")]
    assert (found.skipped, found.skipped_binary) == (1, 2)


def test_binary_files_that_a_glob_matches_are_refused_as_a_shell_would_name_them(tmp_path: Path):
    written(tmp_path, NOT_TEXT["a PNG image"], "a.png")
    with pytest.raises(SourceError, match=r"a.png' looks like a PNG image"):
        resolve_sources([f"{tmp_path}/*"])


def test_a_folder_with_nothing_but_binary_files_is_an_error(tmp_path: Path):
    written(tmp_path, NOT_TEXT["a PNG image"])
    with pytest.raises(SourceError, match="holds no files to read; passed over 1 file: binary"):
        resolve_sources([str(tmp_path)])


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((0, 0), ""),
        ((1, 0), "passed over 1 file: hidden, or written by etl or Docker"),
        ((0, 2), "passed over 2 files: binary"),
        ((1200, 1), "passed over 1,200 files: hidden, or written by etl or Docker; 1 file: binary"),
    ],
)
def test_what_was_passed_over_is_said_with_its_reason(counts: tuple[int, int], words: str):
    assert passed_over(*counts) == words


def test_a_pipe_that_is_named_is_not_looked_at(tmp_path: Path):
    path = tmp_path / "pipe"
    os.mkfifo(path)

    assert look_at(path).plain  # opening it would wait for a writer


def test_a_file_that_cannot_be_opened_is_an_error_when_it_is_read(tmp_path: Path):
    path = written(tmp_path, b"one\n")
    source = FileSource("mine", path)
    path.unlink()

    assert look_at(path) == Kind()
    with pytest.raises(SourceError, match="'mine' cannot be read: No such file"):
        list(source.read())


# Following


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (gzip.compress(b"one\n", mtime=0), "compressed"),
        ("one\n".encode("utf-16"), "UTF-16 text"),
        ("one\n".encode("utf-32"), "UTF-32 text"),
        (b"one\rtwo\r", "text with CR line ends"),
    ],
)
def test_only_plain_text_is_followed(tmp_path: Path, data: bytes, what: str):
    path = written(tmp_path, data)

    with pytest.raises(SourceError) as caught:
        resolve_sources([str(path)], follow=threading.Event())
    ends = f" is {what} and cannot be followed; put it without --follow"
    assert str(caught.value) == f"{str(path)!r}{ends}"


def test_binary_files_are_not_followed(tmp_path: Path):
    image = written(tmp_path, NOT_TEXT["a PNG image"], "a.png")
    written(tmp_path, b"one\n")

    with pytest.raises(SourceError, match="looks like a PNG image"):
        resolve_sources([str(image)], follow=threading.Event())
    assert len(resolve_sources([str(tmp_path)], follow=threading.Event())) == 1


def test_plain_text_is_followed_whatever_its_name(tmp_path: Path):
    path = written(tmp_path, b"one\r\n", "a.gz")
    assert len(resolve_sources([str(path)], follow=threading.Event())) == 1
