"""Servers that take rows over HTTP in bulk: Elasticsearch and OpenSearch, Loki, NDJSON for others.

They cannot keep the ids of files in the transaction that stores the rows: a file is sent again if
its loader is killed before the answer. Each request has the id of its part of a batch, which is
the same each time: Elasticsearch makes ids of documents of it, so that a repeat overwrites, and
others may know a repeat by the header `Idempotency-Key`.
"""

from __future__ import annotations

import json
import logging
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from etl.processors.processor import Delivery, only_polars
from etl.sinks.documents import documents, for_json
from etl.sinks.target import MAX_SPOOL_BYTES, Address, SpooledFile, Target, TryLater, require
from etl.text import first_line, printable

if TYPE_CHECKING:
    from httpx import Client, Response

__all__ = ["Elasticsearch", "HttpLines", "Loki"]

log = logging.getLogger("etl")

MAX_REQUEST_BYTES = 4 << 20
"""Bytes of a request's body, about."""

REQUEST_SECONDS = 60.0
"""Seconds that a server may take to answer."""

BUSY = (408, 425, 429, 500, 502, 503, 504)
"""Statuses of a server that may take the same request later."""

MAX_TOLD = 200
"""Characters of an answer that an error tells."""


@dataclass(frozen=True)
class HttpTarget(Target):
    """A server that takes rows over HTTP.

    Attributes:
        headers: Sent with each request, such as `Authorization`.
        leave_out: Columns that are not sent; `line` is if the run keeps it (`--keep-line`).
        timeout: Seconds for which `etl run` waits at its end while the server fails.
        max_spool_bytes: Bytes of files that may wait for it.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, kw_only=True)
    leave_out: Sequence[str] = field(default=(), kw_only=True)
    timeout: float = field(default=30.0, kw_only=True)
    max_spool_bytes: int = field(default=MAX_SPOOL_BYTES, kw_only=True)
    _sent: dict[str, int] = field(
        default_factory=dict, init=False, repr=False, compare=False, kw_only=True
    )

    together: ClassVar[bool] = False
    media_type: ClassVar[str] = "application/x-ndjson"
    refusals: ClassVar[Sequence[int]] = ()
    """Statuses by which it says that it will never take rows as they are."""

    def __post_init__(self) -> None:
        """Find the library, without loading it."""
        object.__setattr__(self, "url", Address(self.url))
        require("httpx", f"the server at {self.address}", "http")

    @property
    def place(self) -> str:
        """Nothing: the URL says it."""
        return ""

    @property
    @abstractmethod
    def path(self) -> str:
        """What comes after the URL that was given."""

    def agree(self, frame: pl.DataFrame, delivery: Delivery) -> None:
        """Do nothing: a server says what it takes when it is given it."""

    def fit(self, frame: pl.DataFrame, delivery: Delivery) -> pl.DataFrame:
        """Return the rows as JSON can hold them: times as ISO 8601, bytes as base64."""
        return for_json(delivery.without(frame, self.leave_out))

    @abstractmethod
    def bodies(self, rows: pl.DataFrame, id: str) -> pl.Series:
        """Return for each row what a request has of it, as text.

        Args:
            rows: Some rows.
            id: That of their file.
        """

    def body(self, parts: pl.Series) -> bytes:
        """Return a request's body."""
        return ("\n".join(parts) + "\n").encode()

    def refused(self, response: Response, id: str) -> Mapping[int, str]:  # noqa: ARG002
        """Return which of the rows of a request were refused for good, and why.

        Raises:
            TryLater: If others were refused for now.
        """
        return {}

    @contextmanager
    def session(self) -> Iterator[HttpSession]:
        """Keep connections to the server, until the block ends."""
        import httpx

        limits = httpx.Timeout(REQUEST_SECONDS, connect=10.0)
        with httpx.Client(headers=dict(self.headers), timeout=limits) as client:
            yield HttpSession(client, self, self._sent)


class HttpSession:
    """Connections to a server.

    Args:
        client: They.
        target: The server.
        sent: Rows of files that the server has answered for, by id.
    """

    def __init__(self, client: Client, target: HttpTarget, sent: dict[str, int]) -> None:
        self._client = client
        self._target = target
        self._sent = sent

    def loaded(self, ids: Sequence[str]) -> set[str]:  # noqa: ARG002
        """Return nothing: a server does not tell."""
        return set()

    def load(self, files: Sequence[SpooledFile]) -> None:
        """Send files, from where an earlier try got an answer for the last time."""
        for file in files:
            rows = file.rows()
            parts = self._target.bodies(rows, file.id)
            ends = (parts.str.len_bytes().cum_sum() // MAX_REQUEST_BYTES).rle_id()
            for group in pl.DataFrame({"end": ends, "part": parts}).partition_by("end"):
                start, height = self._sent.get(file.id, 0), group.height
                first = int((ends < group["end"][0]).sum())
                if first < start:
                    continue
                self._send(file, rows.slice(first, height), group["part"], first)
                self._sent[file.id] = first + height
            self._sent.pop(file.id, None)

    def _send(self, file: SpooledFile, rows: pl.DataFrame, parts: pl.Series, first: int) -> None:
        target = self._target
        response = self._client.post(
            target.address.secret.rstrip("/") + target.path,
            content=target.body(parts),
            headers={"Content-Type": target.media_type, "Idempotency-Key": f"{file.id}-{first}"},
        )
        refused: Mapping[int, str] = {}
        if response.status_code in target.refusals:
            refused = dict.fromkeys(range(rows.height), _told(response))
        elif response.status_code in BUSY:
            raise TryLater(_told(response), _asked(response))
        elif not response.is_success:
            raise ServerRefused(_told(response))
        else:
            refused = target.refused(response, f"{file.id}-{first}")
        if refused:
            self._keep(file, rows, refused, first)

    def _keep(
        self, file: SpooledFile, rows: pl.DataFrame, refused: Mapping[int, str], first: int
    ) -> None:
        """Write rows that were refused for good to a file beside the output, with the reasons."""
        places = sorted(refused)
        reasons = pl.Series("refused", [refused[one] for one in places], pl.String)
        spool = file.path.parent
        folder = spool.parent.parent / "refused" / spool.name
        file.files.make_folder(folder, private=file.files.is_private(spool))
        path = folder / f"{file.path.stem}-{first}.jsonl"
        file.files.create(path, rows[places].with_columns(reasons).write_ndjson)
        log.warning(
            "target %s refused %d rows, which are in %s: %s",
            self._target.name,
            len(places),
            path,
            reasons[0],
        )


class ServerRefused(Exception):
    """A server does not take a request, and would not later."""


@only_polars
@dataclass(frozen=True)
class HttpLines(HttpTarget):
    """Post rows to a URL as lines of JSON (NDJSON), each at least once.

    Args:
        url: Where to, with a name and password if it takes them.
        headers: Sent with each request, such as `Authorization`.
        leave_out: Columns that are not sent; `line` is if the run keeps it (`--keep-line`).
        timeout: Seconds for which `etl run` waits at its end while the server fails.
        max_spool_bytes: Bytes of files that may wait for it; while there are more, workers
            lease nothing.

    Raises:
        UsageError: If `httpx` is not installed.
    """

    @property
    def path(self) -> str:
        """Nothing: the URL is whole."""
        return ""

    def bodies(self, rows: pl.DataFrame, id: str) -> pl.Series:  # noqa: ARG002
        """Return each row as an object."""
        return documents(rows)


@only_polars
@dataclass(frozen=True)
class Elasticsearch(HttpTarget):
    """Index rows in Elasticsearch or OpenSearch, each once: ids of documents are those of rows.

    Documents that it refuses, such as for a field of another type, are written to
    `refused/` below the output folder, with the reason.

    Args:
        url: Of the server, with a name and password if it takes them.
        index: The index, or its alias.
        headers: Sent with each request, such as `Authorization`.
        leave_out: Columns that are not sent; `line` is if the run keeps it (`--keep-line`).
        timeout: Seconds for which `etl run` waits at its end while the server fails.
        max_spool_bytes: Bytes of files that may wait for it; while there are more, workers
            lease nothing.

    Raises:
        UsageError: If `httpx` is not installed.
    """

    url: str = field(repr=False)
    index: str

    @property
    def place(self) -> str:
        """The index."""
        return self.index

    @property
    def path(self) -> str:
        """That of the bulk API."""
        return "/_bulk?filter_path=errors,items.*.status,items.*.error"

    def bodies(self, rows: pl.DataFrame, id: str) -> pl.Series:
        """Return each row as an action and its document."""
        head = json.dumps({"index": {"_index": self.index, "_id": f"{id}-"}})[:-3]
        number = pl.int_range(rows.height, dtype=pl.Int64).cast(pl.String)
        action = pl.concat_str(pl.lit(head), number, pl.lit('"}}\n'))
        return documents(rows).to_frame("row").select(action + pl.col("row")).to_series()

    def refused(self, response: Response, id: str) -> Mapping[int, str]:
        """Return the documents that were refused for good."""
        answer = response.json()
        if not answer.get("errors"):
            return {}
        items = [next(iter(item.values())) for item in answer["items"]]
        if any(item["status"] in BUSY for item in items):  # a repeat overwrites those that passed
            raise TryLater(f"{id}: too many requests", _asked(response))
        return {
            place: _reason(item["error"])
            for place, item in enumerate(items)
            if item["status"] >= 400 and "error" in item
        }


@only_polars
@dataclass(frozen=True)
class Loki(HttpTarget):
    """Push rows to Grafana Loki; it drops an entry that it has: the same time, labels and text.

    An entry has the row's `timestamp` (the present time where there is none), and its `line` or
    else its `message`; other columns are structured metadata. Requests that it refuses, such as
    for entries that are too old, are written to `refused/` below the output folder.

    Args:
        url: Of the server, with a name and password if it takes them.
        labels: Of all entries.
        by: Columns that are labels, too: of few values, such as `level`.
        headers: Sent with each request, such as `X-Scope-OrgID`.
        leave_out: Columns that are not sent.
        timeout: Seconds for which `etl run` waits at its end while the server fails.
        max_spool_bytes: Bytes of files that may wait for it; while there are more, workers
            lease nothing.

    Raises:
        UsageError: If `httpx` is not installed.
    """

    url: str = field(repr=False)
    labels: Mapping[str, str] = field(default_factory=lambda: {"job": "etl"}, kw_only=True)
    by: Sequence[str] = field(default=("level",), kw_only=True)

    media_type: ClassVar[str] = "application/json"
    refusals: ClassVar[Sequence[int]] = (400,)

    @property
    def path(self) -> str:
        """That of the push API."""
        return "/loki/api/v1/push"

    def fit(self, frame: pl.DataFrame, delivery: Delivery) -> pl.DataFrame:
        """Return the rows with the time of each in nanoseconds."""
        now = pl.lit(time.time_ns(), pl.Int64)
        at = pl.col("timestamp").dt.epoch("ns") if "timestamp" in frame.columns else now
        rows = frame.select(pl.exclude("timestamp"), _at=at.fill_null(now).cast(pl.String))
        return super().fit(rows, delivery)

    def bodies(self, rows: pl.DataFrame, id: str) -> pl.Series:
        """Return each row as a stream of one entry."""
        text = next((name for name in ("line", "message") if name in rows.columns), None)
        by = [name for name in self.by if name in rows.columns]
        entry = pl.lit("") if text is None else pl.col(text).fill_null("")
        rest = rows.select(pl.exclude("_at", *by, *([text] if text else []))).columns
        batch = pl.lit(id).alias("etl_batch")
        texts = [pl.col(name).cast(pl.String).fill_null("") for name in rest]
        values = pl.concat_str(
            pl.lit('{"stream":'),
            pl.struct(
                *(pl.lit(value).alias(name) for name, value in self.labels.items()),
                *(pl.col(name).cast(pl.String).fill_null("none") for name in by),
            ).struct.json_encode(),
            pl.lit(',"values":[['),
            pl.struct(a=pl.col("_at")).struct.json_encode().str.slice(5).str.head(-1),
            pl.lit(","),
            pl.struct(a=entry).struct.json_encode().str.slice(5).str.head(-1),
            pl.lit(","),
            pl.struct(*texts, batch).struct.json_encode(),
            pl.lit("]]}"),
        )
        return rows.select(values.alias("part")).to_series()

    def body(self, parts: pl.Series) -> bytes:
        """Return the streams as one object."""
        return ('{"streams":[' + ",".join(parts) + "]}").encode()


def _told(response: Response) -> str:
    """Return what a server said, in short."""
    said = printable(first_line(response.text), MAX_TOLD)
    return f"HTTP {response.status_code} {response.reason_phrase}: {said}".rstrip(": ")


def _asked(response: Response) -> float:
    """Return for how many seconds a server wants to be left alone; 0 if it does not say."""
    after = response.headers.get("Retry-After", "")
    return float(after) if after.isdigit() else 0.0


def _reason(error: Any) -> str:
    """Return why a document was refused."""
    said = error if isinstance(error, str) else f"{error.get('type')}: {error.get('reason')}"
    return printable(first_line(said), MAX_TOLD)
