"""Topics of Kafka: `kafka://broker:9092/topic`, each message a record.

How far a partition was read is kept with its lines, in one transaction, by the store and not by
the cluster; a group (`?group=name`) only shares the partitions among those who read. A batch of
messages of one line each is queued by reference (partition and offsets): a worker asks for them
again, and checks them. Messages of several lines are queued by content.

Left out: keys, headers, and messages without a value. What a client needs to be let in (SASL,
TLS) is in a file of librdkafka's properties, which `ETL_KAFKA` names.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from etl.errors import SourceChanged, SourceError, SourceUnavailable, UsageError
from etl.queue import Checkpoint
from etl.queue.urls import without_secrets
from etl.records.batch import Batch, Reference
from etl.records.checksum import crc32
from etl.records.context import AS_FOUND, ReadOptions
from etl.settings import kafka_properties
from etl.sources.chunks import CHUNK_BYTES, SourceChunk
from etl.sources.files import nothing_known
from etl.sources.identity import Known
from etl.sources.stream import FLUSH_AFTER

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, TopicPartition

__all__ = ["SCHEME", "KafkaSource", "read_offsets"]

log = logging.getLogger("etl.kafka")

SCHEME = "kafka://"
MESSAGES = 10_000
"""Messages that are asked for at a time."""

TIMEOUT = 30.0
"""Seconds without an answer after which a cluster is taken to be away."""


@dataclass(frozen=True, slots=True)
class KafkaSource:
    """A topic that is read to the end that it has, or as messages come.

    Attributes:
        url: `kafka://broker:9092,broker:9092/topic`, perhaps with `?group=name`.
        options: How lines are read.
        by_reference: Queue offsets rather than text.
        stop: If given, messages are read as they come until this is set.
    """

    url: str
    options: ReadOptions = AS_FOUND
    by_reference: bool = True
    stop: threading.Event | None = None
    size: None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Check the URL."""
        if not self.topic or "/" in self.topic or not urlsplit(self.url).netloc:
            raise UsageError(f"{self.name!r} is no topic; write kafka://broker:9092/topic")

    @property
    def name(self) -> str:
        """The topic's URL, without what must not be kept."""
        return without_secrets(self.url)

    @property
    def key(self) -> str:
        """What its checkpoints are stored under, with `/` and the partition's number behind."""
        return self.name

    @property
    def topic(self) -> str:
        """Its name in the cluster."""
        return urlsplit(self.url).path.removeprefix("/")

    @property
    def group(self) -> str:
        """Who shares its partitions; empty if this reads all of them."""
        return parse_qs(urlsplit(self.url).query).get("group", [""])[0]

    def read(self, known: Known = nothing_known, *, reread: bool = False) -> Iterator[SourceChunk]:
        """Yield batches of what was not read before; each is of one partition.

        Args:
            known: Returns the checkpoints of a store.
            reread: Read all that the cluster has, even if it was read before.

        Raises:
            SourceError: If the topic is not there, or its cluster does not answer.
        """
        with _as_source_error(self.name), _consumer(self.url, self.group) as consumer:
            reader = _Reader(self, consumer, known, reread=reread)
            yield from reader.to_the_end() if self.stop is None else reader.as_they_come(self.stop)

    def head(self) -> tuple[bytes, float]:
        """Return the text of the first messages, and when the last of them was made, in seconds.

        Raises:
            SourceError: If the topic is not there, or its cluster does not answer.
        """
        chunk = next(replace(self, by_reference=False, stop=None).read(), None)
        if chunk is None:
            return b"", time.time()
        text = b"".join(line.encode() + b"\n" for line in chunk.batch.frame()["line"])
        return text, chunk.checkpoint.modified if chunk.checkpoint else time.time()


class _Reader:
    """Reads the partitions of a topic."""

    def __init__(
        self, source: KafkaSource, consumer: Consumer, known: Known, *, reread: bool
    ) -> None:
        self._source, self._consumer = source, consumer
        self._known, self._reread = known, reread
        self._partitions: dict[int, _Partition] = {}
        found = consumer.list_topics(source.topic, timeout=TIMEOUT).topics[source.topic]
        if found.error:
            raise SourceError(f"{source.name!r} cannot be read: {found.error.str()}")
        self._numbers = sorted(found.partitions)

    def to_the_end(self) -> Iterator[SourceChunk]:
        """Yield what the partitions have now."""
        self._assign(self._numbers)
        left = {number for number, one in self._partitions.items() if one.offset < one.end}
        last = time.monotonic()
        while left:
            for number, messages in self._messages().items():
                last = time.monotonic()
                part = self._partitions[number]
                part.take([one for one in messages if not _is_end(one) and _after(one) <= part.end])
                if _is_end(messages[-1]) or _after(messages[-1]) >= part.end:
                    left.discard(number)
                if part.size >= CHUNK_BYTES or number not in left:
                    yield from part.chunks()
            if time.monotonic() - last > TIMEOUT:
                raise SourceError(
                    f"{self._source.name!r} cannot be read on: no message in {TIMEOUT:g} s, "
                    f"{len(left)} partitions are not at their end"
                )

    def as_they_come(self, stop: threading.Event) -> Iterator[SourceChunk]:
        """Yield messages soon after they were made."""
        if self._source.group:
            self._consumer.subscribe(
                [self._source.topic],
                on_assign=lambda _, parts: self._assign([one.partition for one in parts]),
                on_revoke=lambda *_: self._partitions.clear(),
            )
        else:
            self._assign(self._numbers)
        while not stop.is_set():
            news = self._messages()
            for number, messages in news.items():
                if number in self._partitions:
                    self._partitions[number].take([one for one in messages if not _is_end(one)])
            quiet = sum(map(len, news.values())) < MESSAGES
            for part in list(self._partitions.values()):
                if quiet or part.size >= CHUNK_BYTES:
                    yield from part.chunks()

    def _messages(self) -> dict[int, list[Message]]:
        """Return the next messages of each partition; the last may say that it is at its end."""
        found: dict[int, list[Message]] = {}
        for message in self._consumer.consume(MESSAGES, timeout=FLUSH_AFTER):
            if (error := message.error()) and not _is_end(message):
                if not error.retriable():
                    raise SourceError(f"{self._source.name!r} cannot be read: {error.str()}")
                log.warning("%s: %s", self._source.name, error.str())
                continue
            found.setdefault(message.partition() or 0, []).append(message)
        return found

    def _assign(self, numbers: Iterable[int]) -> None:
        """Read these partitions from where they were read last."""
        self._partitions = {number: self._found(number) for number in numbers}
        self._consumer.assign(
            [
                _place(self._source.topic, one.number, one.offset)
                for one in self._partitions.values()
            ]
        )

    def _found(self, number: int) -> _Partition:
        source = self._source
        place = _place(source.topic, number)
        low, high = self._consumer.get_watermark_offsets(place, timeout=TIMEOUT)
        key = f"{source.name}/{number}"
        last = next(iter(self._known([key], "")[-1:]), None)
        start, expected = last or Checkpoint(key, low, 0, number=1), last
        if last and self._reread:
            start = replace(last, offset=low, line_number=0)
        elif last and last.offset > high:  # the topic was made again
            start, expected = Checkpoint(key, low, 0, number=last.number + 1), None
        elif start.offset < low:
            log.warning(
                "%s: offsets %s to %s are gone: the cluster keeps messages for a shorter time",
                key,
                f"{start.offset:,}",
                f"{low - 1:,}",
            )
            start = replace(start, offset=low)
        return _Partition(number, source, start, expected, end=high)


@dataclass
class _Partition:
    """A partition that is read.

    Attributes:
        number: Its number.
        source: The topic.
        checkpoint: How far it is read.
        expected: What the store must know of it.
        end: The offset behind its last message, when it was looked at.
        size: Bytes of the messages that are not put yet.
    """

    number: int
    source: KafkaSource
    checkpoint: Checkpoint
    expected: Checkpoint | None
    end: int
    size: int = 0
    _messages: list[Message] = field(default_factory=list)

    @property
    def offset(self) -> int:
        """The next message's."""
        return _after(self._messages[-1]) if self._messages else self.checkpoint.offset

    def take(self, messages: Sequence[Message]) -> None:
        """Add messages."""
        self._messages += messages
        self.size += sum(map(len, messages))

    def chunks(self) -> Iterator[SourceChunk]:
        """Yield the messages that were added."""
        if not self._messages:
            return
        messages, self._messages, self.size = self._messages, [], 0
        before, source = self.checkpoint, self.source
        modified = messages[-1].timestamp()[1] / 1000
        values = [value for one in messages if (value := one.value()) is not None]
        context = replace(source.options.context(modified=modified), record_start=None)
        batch = Batch.from_lines(values, source=before.source, context=context)
        batch = replace(batch, first_line=before.line_number + 1, format=source.options.format)
        first, stop = _after(messages[0]) - 1, _after(messages[-1])
        text, size = batch.payload, batch.size
        if source.by_reference and isinstance(text, bytes) and len(values) == stop - first:
            batch = replace(batch, payload=Reference(before.source, first, stop, crc32(text)))
        self.checkpoint = replace(
            before, offset=stop, line_number=before.line_number + batch.lines, modified=modified
        )
        chunk = SourceChunk(batch, self.checkpoint, self.expected, size)
        self.expected = self.checkpoint
        yield chunk


def read_offsets(reference: Reference) -> bytes:
    """Return the text of the messages that a reference names.

    Raises:
        SourceChanged: If they are not those that were queued: they are gone, or others.
        SourceUnavailable: If the cluster does not answer.
    """
    url, _, number = reference.path.rpartition("/")
    topic = KafkaSource(url).topic
    values: list[bytes] = []
    offset, since = reference.start, time.monotonic()
    with _consumer(url) as consumer:
        consumer.assign([_place(topic, int(number), offset)])
        while offset < reference.stop and time.monotonic() - since < TIMEOUT:
            for message in consumer.consume(min(MESSAGES, reference.stop - offset), timeout=1.0):
                since = time.monotonic()
                if _is_end(message) or _is_gone(message):
                    offset = reference.stop
                elif not message.error():
                    offset = _after(message)
                    if offset <= reference.stop:
                        values.append(message.value() or b"")
    if offset < reference.stop:
        raise SourceUnavailable(
            f"{reference.path!r} cannot be read: no message in {TIMEOUT:g} s from offset {offset:,}"
        )
    text = Batch.from_lines(values).payload
    if not isinstance(text, bytes) or crc32(text) != reference.checksum:
        raise SourceChanged(
            f"messages {reference.start} to {reference.stop - 1} of {reference.path!r} are not "
            "those that were queued"
        )
    return text


def _place(topic: str, number: int, offset: int = 0) -> TopicPartition:
    from confluent_kafka import TopicPartition

    return TopicPartition(topic, number, offset)


def _after(message: Message) -> int:
    """Return the offset behind a message."""
    return (message.offset() or 0) + 1


def _is_end(message: Message) -> bool:
    error = message.error()
    return error is not None and error.name() == "_PARTITION_EOF"


def _is_gone(message: Message) -> bool:
    error = message.error()
    return error is not None and error.name() in {"_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"}


@contextmanager
def _consumer(url: str, group: str = "") -> Iterator[Consumer]:
    """Give a consumer that is closed in the end."""
    try:
        from confluent_kafka import Consumer
    except ImportError as error:
        raise UsageError(
            f"{without_secrets(url)!r} cannot be read: {error}; pip install 'etl[kafka]'"
        ) from error
    consumer = Consumer(
        {
            "auto.offset.reset": "error",
            **kafka_properties(),
            "bootstrap.servers": urlsplit(url).netloc,
            "group.id": group or "etl",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        },
        logger=log,
    )
    try:
        yield consumer
    finally:
        consumer.close()


@contextmanager
def _as_source_error(name: str) -> Iterator[None]:
    from confluent_kafka import KafkaException

    try:
        yield
    except KafkaException as error:
        raise SourceError(f"{name!r} cannot be read: {error.args[0].str()}") from error
