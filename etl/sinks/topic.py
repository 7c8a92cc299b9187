"""Topics of Kafka: each row a message of JSON."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

import polars as pl

from etl.errors import UsageError
from etl.processors.processor import Delivery, only_polars
from etl.settings import kafka_properties
from etl.sinks.documents import documents, for_json
from etl.sinks.target import MAX_SPOOL_BYTES, Address, SpooledFile, Target, require

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

__all__ = ["Topic"]

log = logging.getLogger("etl.kafka")

ANSWER_SECONDS = 30
"""Seconds that the cluster may take for a message."""


@only_polars
@dataclass(frozen=True)
class Topic(Target):
    """Send each row as a message of JSON to a topic of Kafka, at least once.

    Each message has the id of its file and the number of its row in the header `etl_row`, by
    which a reader can know one that was sent again, as a loader was killed before the answer.

    Args:
        url: `kafka://broker:9092,broker:9092/topic`. Passwords are in the file that
            `ETL_KAFKA` names.
        key: Column whose value is the message's key; messages of a key keep their order.
        leave_out: Columns that are not sent; `line` is if the run keeps it (`--keep-line`).
        timeout: Seconds for which `etl run` waits at its end while the cluster fails.
        max_spool_bytes: Bytes of files that may wait for it; while there are more, workers
            lease nothing.

    Raises:
        UsageError: If it is no such URL, or `confluent-kafka` is not installed.
    """

    url: str = field(repr=False)
    key: str | None = field(default=None, kw_only=True)
    leave_out: Sequence[str] = field(default=(), kw_only=True)
    timeout: float = field(default=30.0, kw_only=True)
    max_spool_bytes: int = field(default=MAX_SPOOL_BYTES, kw_only=True)

    together: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the URL, and find the library without loading it."""
        object.__setattr__(self, "url", Address(self.url))
        if self.address.scheme != "kafka" or not self.place or "/" in self.place:
            raise UsageError(f"{str(self.address)!r} is no topic; write kafka://broker:9092/topic")
        require("confluent_kafka", f"the topic {self.address}", "kafka")

    @property
    def place(self) -> str:
        """The topic."""
        return urlsplit(self.address.secret).path.removeprefix("/")

    def agree(self, frame: pl.DataFrame, delivery: Delivery) -> None:
        """Do nothing: a message may be anything."""

    def fit(self, frame: pl.DataFrame, delivery: Delivery) -> pl.DataFrame:
        """Return each row as a message: `key`, or null, and `value`."""
        rows = for_json(delivery.without(frame, self.leave_out))
        has_key = self.key is not None and self.key in frame.columns
        key = pl.col(self.key or "") if has_key else pl.lit(None)
        return frame.select(key.cast(pl.String).alias("key"), documents(rows).alias("value"))

    @contextmanager
    def session(self) -> Iterator[TopicSession]:
        """Keep a producer, until the block ends."""
        from confluent_kafka import Producer

        producer = Producer(
            {
                "linger.ms": 20,
                "compression.type": "zstd",
                **kafka_properties(),
                "bootstrap.servers": urlsplit(self.address.secret).netloc,
                "enable.idempotence": True,
                "delivery.timeout.ms": ANSWER_SECONDS * 1000,
            },
            logger=log,
        )
        try:
            yield TopicSession(producer, self.place)
        finally:
            producer.purge()
            producer.flush(1)


class TopicSession:
    """A producer of a topic.

    Args:
        producer: It.
        topic: The topic.
    """

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._failed: KafkaError | None = None

    def loaded(self, ids: Sequence[str]) -> set[str]:  # noqa: ARG002
        """Return nothing: a cluster does not tell."""
        return set()

    def load(self, files: Sequence[SpooledFile]) -> None:
        """Send files, and wait until the cluster has answered for each message."""
        from confluent_kafka import KafkaException

        self._failed = None
        for file in files:
            rows = file.rows()
            pairs = zip(rows["key"], rows["value"], strict=True)
            for number, (key, value) in enumerate(pairs):
                self._send(key, value, f"{file.id}-{number}")
        left = self._producer.flush(ANSWER_SECONDS)
        if self._failed:
            raise KafkaException(self._failed)
        if left:
            raise TimeoutError(f"{left} messages have no answer after {ANSWER_SECONDS} s")

    def _send(self, key: str | None, value: str, id: str) -> None:
        headers: list[tuple[str, str | bytes | None]] = [("etl_row", id.encode())]
        while not self._failed:
            try:
                self._producer.produce(
                    self._topic, value, key, headers=headers, on_delivery=self._delivered
                )
            except BufferError:  # it has as many as it may hold
                self._producer.poll(1)
            else:
                self._producer.poll(0)
                return

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        self._failed = self._failed or error
