"""Topics of Kafka as sources, with a real client and librdkafka's own mock cluster."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path

import polars as pl
import pytest
from confluent_kafka import Producer
from growing import put, wait_until

import etl
from etl import open_queue
from etl.errors import SourceChanged, SourceError, UsageError
from etl.pipeline.load import load_pipeline
from etl.processors.processor import Delivery
from etl.queue import Queue
from etl.records.batch import Batch, Reference
from etl.sources.ingest import ingest
from etl.sources.kafka import KafkaSource
from etl.sources.resolve import resolve_sources
from etl.workers.worker import Worker

TOPICS = count(1)


class Topic:
    """A topic of its own."""

    def __init__(self, producer: Producer, broker: str) -> None:
        self._producer = producer
        self.name = f"logs-{next(TOPICS)}"
        self.url = f"kafka://{broker}/{self.name}"
        producer.list_topics(self.name, timeout=10)
        self.send()

    def send(self, *values: str | bytes, partition: int = 0) -> None:
        for value in values:
            self._producer.produce(self.name, value, partition=partition)
        assert self._producer.flush(10) == 0


@pytest.fixture
def topic(cluster: tuple[Producer, str]) -> Topic:
    return Topic(*cluster)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = open_queue(str(tmp_path / "s.db"))
    yield queue
    queue.close()


def work(queue: Queue, tmp_path: Path) -> None:
    Worker(queue, load_pipeline("etl.default:pipeline"), out=tmp_path / "out").drain()


def messages_of(tmp_path: Path) -> dict[str, list[str]]:
    """Return the messages of the output by partition, in the order of their numbers."""
    rows = etl.read_output(tmp_path / "out").sort("source", "line_number")
    found: dict[str, list[str]] = {}
    for source, message in rows.select("source", "message").iter_rows():
        found.setdefault(source.rpartition("/")[2], []).append(message)
    return found


@pytest.mark.parametrize("by_reference", [True, False])
def test_each_message_is_read_once_and_a_partition_in_order(
    *, by_reference: bool, topic: Topic, queue: Queue, tmp_path: Path
) -> None:
    sent = {str(n): [f"INFO message {n}.{number}" for number in range(50 * n)] for n in range(3)}
    for number, values in sent.items():
        topic.send(*values, partition=int(number))
    assert put(queue, topic.url, by_reference=by_reference) == 150
    assert put(queue, topic.url, by_reference=by_reference) == 0
    topic.send("INFO one more", "INFO and another", partition=1)
    assert put(queue, topic.url, by_reference=by_reference) == 2
    sent["1"] += ["INFO one more", "INFO and another"]
    kept = queue.lease("look")
    assert kept
    assert isinstance(kept.batches[0].payload, Reference) == by_reference
    queue.release(kept)
    work(queue, tmp_path)
    wanted = {n: [one.removeprefix("INFO ") for one in values] for n, values in sent.items()}
    assert messages_of(tmp_path) == {n: values for n, values in wanted.items() if values}
    assert queue.stats().conserved


def test_a_message_of_several_lines_is_one_record(
    topic: Topic, queue: Queue, tmp_path: Path
) -> None:
    topic.send("ERROR it failed\n  at a\n  at b\n", "INFO fine\r\n", "", b"INFO caf\xe9")
    assert put(queue, topic.url) == 6
    work(queue, tmp_path)
    rows = etl.read_output(tmp_path / "out").sort("line_number")
    assert rows["line_number"].to_list() == [1, 4, 6]
    assert rows["line_count"].to_list() == [3, 1, 1]
    assert rows["message"].to_list() == ["it failed\n  at a\n  at b", "fine", "caf\\xe9"]
    assert queue.stats().filtered == 1  # the blank one


def test_a_read_that_was_ended_goes_on_where_it_was(topic: Topic, queue: Queue) -> None:
    for number in range(4):
        topic.send(*(f"INFO {number}.{n}" for n in range(10)), partition=number)
    for _ in islice(ingest(queue, KafkaSource(topic.url)), 2):
        pass
    assert queue.stats().accepted == 20
    assert put(queue, topic.url) == 20


@pytest.mark.parametrize("wrong", [{"checksum": 1}, {"start": 9, "stop": 12}])
def test_messages_that_are_not_those_that_were_queued_are_not_processed(
    wrong: dict[str, int], topic: Topic
) -> None:
    topic.send("INFO a", "INFO b")
    given = {"start": 0, "stop": 2, "checksum": 7} | wrong
    with pytest.raises(SourceChanged, match="are not those that were queued"):
        Reference(f"{topic.url}/0", **given).read()


def test_messages_are_put_as_they_come(topic: Topic, queue: Queue) -> None:
    topic.send("INFO before")
    stop = threading.Event()
    (source,) = resolve_sources([topic.url], by_reference=False, follow=stop)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(lambda: [chunk.batch.lines for chunk in ingest(queue, source)])
        try:
            wait_until(queue, lambda: queue.stats().accepted == 1)
            topic.send("INFO after", partition=2)
            wait_until(queue, lambda: queue.stats().accepted == 2)
        finally:
            stop.set()
        assert following.result() == [1, 1]


def test_those_of_a_group_share_the_partitions(
    topic: Topic, queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two clients that join at one time may wait for the end of a session that neither of them
    # has (confluentinc/librdkafka#5569). By default that is after 45 seconds.
    file = tmp_path / "kafka.properties"
    file.write_text("session.timeout.ms = 3000\nheartbeat.interval.ms = 500\n")
    monkeypatch.setenv("ETL_KAFKA", str(file))
    stop = threading.Event()
    names = [f"{topic.url}?group=shop"] * 2
    sources = [resolve_sources([name], by_reference=False, follow=stop)[0] for name in names]
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(lambda one=one: list(ingest(queue, one))) for one in sources]
        try:
            for number in range(4):
                topic.send(*(f"INFO {number}.{n}" for n in range(10)), partition=number)
            wait_until(queue, lambda: queue.stats().accepted >= 40)
            topic.send("INFO last", partition=3)
            wait_until(queue, lambda: queue.stats().accepted == 41)
        finally:
            stop.set()
        for one in both:
            one.result()


def test_what_cannot_be_read_is_said(
    topic: Topic, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match=r"none' cannot be read: .*Unknown topic"):
        put(queue, topic.url.replace(topic.name, "none"))
    for url in ("kafka://broker", "kafka:///topic", "kafka://broker/a/b"):
        with pytest.raises(UsageError, match="is no topic; write kafka://broker:9092/topic"):
            resolve_sources([url])
    monkeypatch.setattr("etl.sources.kafka.TIMEOUT", 0.5)
    with pytest.raises(SourceError, match=r"cannot be read: .*(transport|Timed out)"):
        put(queue, "kafka://127.0.0.1:1/logs")


def test_properties_of_a_client_are_read_from_a_file(
    topic: Topic, queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text("# what the cluster asks for\nsecurity.protocol = nonsense\n")
    monkeypatch.setenv("ETL_KAFKA", str(file))
    with pytest.raises(SourceError, match=r"security\.protocol"):
        put(queue, topic.url)
    monkeypatch.setenv("ETL_KAFKA", str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"ETL_KAFKA names .*none.*No such file"):
        put(queue, topic.url)


def test_rows_are_sent_to_a_topic(topic: Topic, queue: Queue, tmp_path: Path) -> None:
    lines = [f'ERROR "no. {number}"' for number in range(200)]
    target = etl.Topic(topic.url, key="level", leave_out=["line"])
    pipeline = etl.Pipeline("p").add("parse", etl.Parse()).add("out", target)
    queue.put(Batch.from_lines(lines, source="a.log"))
    Worker(queue, pipeline, out=tmp_path / "out").drain()
    assert queue.stats().done == 200
    found = [
        message
        for chunk in KafkaSource(topic.url, by_reference=False).read()
        for message in chunk.batch.frame()["line"]
    ]
    assert [json.loads(one)["line_number"] for one in found] == list(range(1, 201))
    assert json.loads(found[7])["message"] == '"no. 7"'
    assert target.waiting(tmp_path / "out") == []


def test_rows_for_a_cluster_that_is_away_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.sinks.topic.ANSWER_SECONDS", 1)
    target = etl.Topic("kafka://127.0.0.1:1/logs")
    given = Delivery(id="b", token="t", out=tmp_path)  # noqa: S106 - of a lease
    target.stage(target.fit(pl.DataFrame({"n": [1]}), given), given).publish()
    with target.session() as session, pytest.raises(Exception, match=r"timed out|no answer"):
        session.load(target.waiting(tmp_path))
    assert len(target.waiting(tmp_path)) == 1
    with pytest.raises(UsageError, match="is no topic"):
        etl.Topic("http://broker/topic")
