"""Objects in buckets and files of web servers as sources, with a real S3 client and server."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from growing import put
from typer.testing import CliRunner

import etl
from etl import open_queue
from etl.analysis.lineage import lineage
from etl.cli.app import app
from etl.dlq.dead_letters import DeadLetters
from etl.errors import SourceError, SourceUnavailable, UsageError
from etl.pipeline.load import load_pipeline
from etl.processors.processor import Delivery
from etl.queue import Queue
from etl.records.batch import Reference
from etl.sources.ingest import ingest
from etl.sources.objects import ObjectSource
from etl.sources.resolve import resolve_sources
from etl.workers.worker import Worker

TEXT = b"".join(b"2024-03-05 10:00:%02d,123 INFO shop: sold %d\n" % (n % 60, n) for n in range(500))
MORE = b"2024-03-05 11:00:00,123 ERROR shop: out of stock\n"


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = open_queue(str(tmp_path / "s.db"))
    yield queue
    queue.close()


def output_of(queue: Queue, tmp_path: Path) -> pl.DataFrame:
    """Process what waits, and return all output, in order."""
    Worker(queue, load_pipeline("etl.default:pipeline"), out=tmp_path / "out").drain()
    return etl.read_output(tmp_path / "out").sort("source", "line_number")


def test_objects_of_a_glob_are_read_as_files_are(
    s3: Any, bucket: str, queue: Queue, tmp_path: Path
) -> None:
    s3.pipe(f"{bucket}/a/one.log", TEXT)
    s3.pipe(f"{bucket}/a/two.log.gz", gzip.compress(TEXT))
    s3.pipe(f"{bucket}/a/notes.txt", b"no log\n")
    assert put(queue, f"s3://{bucket}/a/*.log*") == 1000
    lease = queue.lease("look")
    assert lease
    assert isinstance(lease.batches[0].payload, Reference)  # it is plain: its text stays there
    queue.release(lease)
    (tmp_path / "same.log").write_bytes(TEXT)
    put(queue, str(tmp_path / "same.log"))
    rows = output_of(queue, tmp_path)
    one, two, same = (
        rows.filter(pl.col("source").str.ends_with(name)).drop("source", "path", strict=False)
        for name in ("/one.log", "/two.log.gz", "/same.log")
    )
    assert one.height == 500
    assert one.equals(same)
    assert two.equals(same)
    assert queue.stats().conserved


def test_etl_put_leaves_the_text_of_objects_where_it_is(
    s3: Any, bucket: str, tmp_path: Path
) -> None:
    s3.pipe(f"{bucket}/a.log", TEXT)
    url = str(tmp_path / "s.db")
    assert CliRunner().invoke(app, ["put", f"s3://{bucket}/a.log", "--store", url]).exit_code == 0
    with closing(open_queue(url)) as queue:
        lease = queue.lease("look")
        assert lease
        assert isinstance(lease.batches[0].payload, Reference)


def test_a_folder_is_all_below_it_but_what_is_hidden(s3: Any, bucket: str, queue: Queue) -> None:
    for name in ("a.log", "deep/er/b.log", ".hidden", "deep/.git/c.log", "empty.log"):
        s3.pipe(f"{bucket}/logs/{name}", TEXT if name != "empty.log" else b"")
    prefix = f"s3://{bucket}/logs"
    found = resolve_sources([f"{prefix}/"])
    names = [source.name.removeprefix(prefix) for source in found]
    assert (names, found.skipped) == (["/a.log", "/deep/er/b.log", "/empty.log"], 2)
    assert put(queue, prefix) == 1000


def test_what_was_read_is_not_read_again_and_what_was_added_is(
    s3: Any, bucket: str, queue: Queue
) -> None:
    for name, pack in (("plain.log", bytes), ("packed.log.gz", gzip.compress)):
        url = f"s3://{bucket}/{name}"
        s3.pipe(url, pack(TEXT))
        assert put(queue, url) == 500
        assert put(queue, url) == 0
        s3.pipe(url, pack(TEXT + MORE))  # an object is replaced whole
        assert put(queue, url) == 1
        s3.pipe(url, pack(MORE + TEXT))
        assert put(queue, url) == 501
        assert put(queue, url) == 0


def test_an_object_that_was_put_again_unchanged_is_not_read_again(
    s3: Any, bucket: str, queue: Queue
) -> None:
    s3.pipe(f"{bucket}/a.log", TEXT)
    assert put(queue, f"s3://{bucket}/a.log") == 500
    s3.pipe(f"{bucket}/a.log", TEXT)
    assert put(queue, f"s3://{bucket}/a.log") == 0


def test_a_read_that_was_ended_goes_on_where_it_was(s3: Any, bucket: str, queue: Queue) -> None:
    s3.pipe(f"{bucket}/a.log", TEXT)
    source = ObjectSource(f"s3://{bucket}/a.log", len(TEXT), chunk=4096)
    for _ in islice(ingest(queue, source), 2):
        pass
    assert 0 < queue.stats().accepted < 500
    assert sum(chunk.batch.lines for chunk in ingest(queue, source)) < 500
    assert queue.stats().accepted == 500


def test_bytes_that_are_not_those_that_were_queued_are_not_processed(
    s3: Any, bucket: str, queue: Queue, tmp_path: Path
) -> None:
    s3.pipe(f"{bucket}/a.log", TEXT)
    assert put(queue, f"s3://{bucket}/a.log") == 500
    s3.pipe(f"{bucket}/a.log", TEXT.replace(b"sold 7\n", b"sold 8\n"))
    Worker(queue, load_pipeline("etl.default:pipeline"), out=tmp_path / "out").drain()
    stats = queue.stats()
    assert (stats.done, stats.dead) == (0, 500)
    (row,) = DeadLetters(queue).frame().to_dict("records")
    assert (row["code"], row["lines"]) == ("source_changed", 500)


def test_lines_of_an_object_that_is_gone_wait(s3: Any, bucket: str, queue: Queue) -> None:
    s3.pipe(f"{bucket}/a.log", TEXT)
    put(queue, f"s3://{bucket}/a.log")
    s3.rm(f"{bucket}/a.log")
    lease = queue.lease("look")
    assert lease
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        lease.batches[0].frame()


def test_a_line_of_an_output_is_found_in_its_object(
    s3: Any, bucket: str, queue: Queue, tmp_path: Path
) -> None:
    url = f"s3://{bucket}/a.log"
    s3.pipe(url, TEXT)
    put(queue, url)
    row = output_of(queue, tmp_path).filter(pl.col("line_number") == 8)
    (found,) = lineage(row, queue).to_dict("records")
    assert (found["text"], found["source"]) == ("2024-03-05 10:00:07,123 INFO shop: sold 7", url)
    s3.pipe(url, MORE)
    (found,) = lineage(row, queue).to_dict("records")
    assert "is not the object that was read" in found["note"]


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("s3://BUCKET/none.log", SourceError, "there is no object 's3://BUCKET/none.log'"),
        ("s3://BUCKET/*.log", SourceError, "no object matches 's3://BUCKET/"),
        (
            "http://127.0.0.1:9/a.log",
            SourceError,
            r"a\.log' cannot be read: Cannot connect to host",
        ),
        (
            "s3://no-such-bucket/a.log",
            SourceError,
            "there is no object 's3://no-such-bucket/a.log'",
        ),
        ("nothing://BUCKET/a.log", UsageError, "Protocol not known: nothing"),
        ("gs://BUCKET/a.log", UsageError, r"gcsfs.*pip install 'etl\[remote\]'"),
    ],
)
def test_what_cannot_be_read_is_said(
    url: str, error: type[Exception], message: str, bucket: str
) -> None:
    with pytest.raises(error, match=message.replace("BUCKET", bucket)):
        resolve_sources([url.replace("BUCKET", bucket)])


def test_credentials_that_are_missing_are_said(
    s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    type(s3).clear_instance_cache()
    with pytest.raises(SourceError, match="cannot be read: Unable to locate credentials"):
        resolve_sources([f"s3://{bucket}/a.log"])
    type(s3).clear_instance_cache()


def test_an_object_is_not_followed(bucket: str) -> None:
    with pytest.raises(UsageError, match="cannot be followed"):
        resolve_sources([f"s3://{bucket}/a.log"], follow=threading.Event())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[[str, bytes], str]]:
    """Serve files as most simple servers do: without ranges. Return a function that adds one."""
    folder = tmp_path / "site"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    handler = partial(Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def add(name: str, data: bytes) -> str:
            (folder / name).write_bytes(data)
            return f"http://127.0.0.1:{server.server_port}/{name}"

        yield add
        server.shutdown()
        thread.join()


def test_a_file_of_a_web_server_is_read(
    site: Callable[[str, bytes], str], queue: Queue, tmp_path: Path
) -> None:
    for name, data in (("a.log", TEXT), ("b.log.gz", gzip.compress(TEXT))):
        url = site(name, data)
        assert put(queue, url) == 500
        assert put(queue, url) == 0
    assert output_of(queue, tmp_path).height == 1000
    with pytest.raises(SourceError, match="there is no object"):
        resolve_sources([url + "x"])


def test_what_a_url_has_of_secrets_is_kept_nowhere(
    site: Callable[[str, bytes], str], tmp_path: Path
) -> None:
    url = site("a.log", TEXT)
    result = etl.run(f"{url}?signature=SECRET", store=str(tmp_path / "s.db"), out=tmp_path / "out")
    assert result.counts["done"] == 500
    assert set(result.output()["source"]) == {url}
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".log"]
    assert [path for path in kept if b"SECRET" in path.read_bytes()] == []
    with pytest.raises(SourceError) as raised:
        etl.run(f"{url}x?signature=SECRET", store=str(tmp_path / "s.db"), out=tmp_path / "out")
    assert "SECRET" not in str(raised.value)


def test_a_batch_is_an_object_once(s3: Any, bucket: str, tmp_path: Path) -> None:
    target = etl.Bucket(f"s3://{bucket}/lines", leave_out=["secret"])
    rows = pl.DataFrame({"n": [1, 2], "none": [None, None], "secret": ["x", "y"]})
    given = Delivery(id="b~1", token="t", out=tmp_path)  # noqa: S106 - of a lease
    target.agree(rows, given)
    target.stage(target.fit(rows, given), given).publish()
    for _ in range(2):  # a loader that was killed before the answer sends it again
        with target.session() as session:
            session.load(target.waiting(tmp_path))
    assert [one.rpartition("/")[2] for one in s3.find(f"{bucket}/lines")] == ["b~1.parquet"]
    with s3.open(f"{bucket}/lines/b~1.parquet") as file:
        found = pl.read_parquet(file)
    assert found.rows() == [(1, None), (2, None)]


def test_a_run_from_bucket_to_bucket(s3: Any, bucket: str, tmp_path: Path) -> None:
    s3.pipe(f"{bucket}/in/a.log", TEXT)
    pipeline = tmp_path / "p.py"
    pipeline.write_text(
        "import etl\n"
        "p = etl.Pipeline('p').add('parse', etl.Parse())\n"
        f"p.add('out', etl.Bucket('s3://{bucket}/out'))\n"
    )
    result = etl.run(f"s3://{bucket}/in/", pipeline=f"{pipeline}:p", store=str(tmp_path / "s.db"))
    assert result.counts["done"] == 500
    (name,) = s3.find(f"{bucket}/out")
    with s3.open(name) as file:
        assert pl.read_parquet(file)["line_number"].to_list() == list(range(1, 501))


def test_a_bucket_that_is_not_there_is_said(s3: Any, tmp_path: Path) -> None:
    target = etl.Bucket("s3://no-such-bucket/lines")
    given = Delivery(id="b", token="t", out=tmp_path)  # noqa: S106 - of a lease
    target.stage(pl.DataFrame({"n": [1]}), given).publish()
    with (
        target.session() as session,
        pytest.raises(FileNotFoundError, match="bucket does not exist"),
    ):
        session.load(target.waiting(tmp_path))
    with pytest.raises(UsageError, match="gcsfs"):
        etl.Bucket("gs://bucket/lines")
