"""The models of requests and answers, with descriptions and examples for OpenAPI.

Models of rows are made of the tables in `etl.records.columns`, which have each column's name,
type and meaning. Times are Unix seconds, durations seconds; counts are source lines unless
their description says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from etl.records import columns
from etl.records.columns import FLAG, INTEGER, NUMBER, TOTALS, Column, Table

MAX_IDS = 10_000

EXAMPLE = "2026-11-22 09:00:00,000 INFO shop: user 17 logged in"
"""A line of a format that is detected."""

Name = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
]
"""A short text without control characters."""

DeadLetterId = Annotated[int, Field(ge=1, le=2**63 - 1)]

STATE = Table(
    "state",
    Column("conserved", FLAG, "Whether the totals add up."),
    Column("paused", FLAG, "Whether the queue is paused."),
    Column("oldest_age", NUMBER, "Seconds that the oldest waiting batch has waited."),
)
SIZES = Table(
    "sizes",
    Column("waiting_bytes", INTEGER, "Bytes of text that wait."),
    Column("waiting_batches", INTEGER, "Batches that wait."),
    Column("leased_batches", INTEGER, "Batches that workers have leased."),
)
RATES = Table(
    "rates",
    Column("accepted_per_second", NUMBER, "Lines stored a second, over ten seconds."),
    Column("done_per_second", NUMBER, "Lines done a second, over ten seconds."),
)
TIMES = Table(
    "times",
    Column("p50", NUMBER, "Median of the seconds per line, after 20 batches.", null=True),
    Column("p95", NUMBER, "95th percentile of the seconds per line, after 20 batches.", null=True),
    Column("p99", NUMBER, "99th percentile of the seconds per line, after 20 batches.", null=True),
    Column("rate", NUMBER, "Lines per busy second."),
)

EXAMPLE_OF_KIND = {
    columns.BYTES: None,
    FLAG: False,
    INTEGER: 1,
    columns.JSON: {"level": "CRITICAL"},
    columns.NAMES: ["level", "check"],
    columns.NAME_LIST: ["level", "check"],
    NUMBER: 0.02,
    columns.NUMBER_LIST: [0.01, 0.01],
    columns.SECOND: 1795300000,
    columns.TEXT: "",
    columns.TIME: 1795300000.0,
}
EXAMPLE_OF_COLUMN = {
    "accepted": 1000,
    "accepted_per_second": 100.0,
    "action": "dead",
    "batch": "064a1e5b7c9d10f3a2b4c5d6",
    "code": "poison",
    "conserved": True,
    "dead": 10,
    "done": 900,
    "done_per_second": 90.0,
    "filtered": 40,
    "fingerprint": "1f2e3d4c5b6a",
    "format": None,
    "leased": 0,
    "line": "CRITICAL disk gone",
    "message": "a CRITICAL line is poison",
    "processor": "check",
    "rate": 50_000.0,
    "sample": "CRITICAL disk gone",
    "source": "http",
    "state": "dead",
    "status": "open",
    "version": "8d5f",
    "waiting": 50,
    "worker": "host-1",
}
"""Examples for columns whose kind's example would mislead; the totals of them add up."""


def row(name: str, about: str, table: Iterable[Column], **fields: Any) -> type[BaseModel]:
    """Return a model of a row.

    Args:
        name: The model's name.
        about: Its description.
        table: The row's columns.
        **fields: Further fields, or other types of columns, as pydantic's `create_model` takes.
    """
    return create_model(name, __doc__=about, **{one.name: _field(one) for one in table} | fields)


def _field(column: Column, kind: Any = None, **more: Any) -> tuple[Any, Any]:
    """Return a column as a field, of its own type or of another."""
    kind = kind or (str if column.kind is columns.BYTES else column.kind.python)
    example = EXAMPLE_OF_COLUMN.get(column.name, EXAMPLE_OF_KIND.get(column.kind))
    about = Field(description=column.about, examples=[example], **more)
    return (kind | None if column.null else kind), about


def rows(model: type[BaseModel]) -> Any:
    """Return the type of a list of rows."""
    return list[model]  # type: ignore[valid-type]


def page(name: str, model: type[BaseModel]) -> type[BaseModel]:
    """Return the model of a part of a list."""
    about = "Some rows; `next` is the `offset` of the page that follows, or null."
    return create_model(name, __doc__=about, items=rows(model), next=(int | None, None))


def example(**values: Any) -> ConfigDict:
    """Return a model's configuration with an example in it."""
    return ConfigDict(json_schema_extra={"examples": [values]})


class ProblemDetail(BaseModel):
    """Why a request was refused, by RFC 9457; `error` is the same text as `detail`."""

    model_config = example(
        type="about:blank",
        title="Too Many Requests",
        status=429,
        detail="the queue is full; wait for workers to catch up",
        error="the queue is full; wait for workers to catch up",
        accepted=0,
    )

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    error: str
    accepted: int = Field(default=0, description="Lines of the request that were stored.")


class Line(BaseModel):
    """One log line."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"line": EXAMPLE}]})

    line: str


class Receipt(BaseModel):
    """Lines that are durable.

    `batch` is the id of their batch, in which they begin at `first_line`; a long body is cut
    into several `batches`, whose ids are `batch`, `batch-1`, `batch-2`, and so on.
    """

    model_config = example(
        accepted=2, batch="064a1e5b7c9d10f3a2b4c5d6", batches=1, first_line=1, duplicate=False
    )

    accepted: int
    batch: str
    batches: int = 1
    first_line: int = 1
    duplicate: bool = Field(
        default=False, description="Whether an earlier request with the same key stored them."
    )


class Control(BaseModel):
    """Whether the queue is paused, and whether this server has stopped taking lines."""

    model_config = example(paused=False, draining=False)

    paused: bool
    draining: bool


class Discard(BaseModel):
    """Which open dead letters: those that match every field given, or `all`."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"ids": [1, 2]}, {"all": True}]}
    )

    ids: list[DeadLetterId] | None = Field(default=None, min_length=1, max_length=MAX_IDS)
    fingerprint: Name | None = None
    processor: Name | None = None
    code: Name | None = None
    source: Name | None = None
    all: bool = False

    @property
    def which(self) -> dict[str, Any]:
        """The filter for `DeadLetters`."""
        return self.model_dump(exclude={"all", "force"}, exclude_none=True)


class Replay(Discard):
    """Which open dead letters; with `force` also those at the limit of replays."""

    force: bool = False


class Reopen(Discard):
    """Which discarded dead letters: those that match every field given, or `all`."""


class ReplayAnswer(BaseModel):
    """The number of lines that wait again."""

    model_config = example(replayed=2)

    replayed: int


class DiscardAnswer(BaseModel):
    """The number of dead letters that were discarded."""

    model_config = example(discarded=2, ids=[1, 2])

    discarded: int
    ids: list[int] | None = Field(
        default=None, description=f"Their ids; null if they are more than {MAX_IDS:,}."
    )


class ReopenAnswer(BaseModel):
    """The number of lines that are open again."""

    model_config = example(reopened=2)

    reopened: int


class Health(BaseModel):
    """`ok`."""

    model_config = example(status="ok")

    status: str


ProcessorRow = row(
    "ProcessorRow",
    "The counters of one processor.",
    (columns.PROCESSORS["processor"], *columns.COUNTERS, *TIMES),
    worker=_field(columns.PROCESSORS["worker"], str | None, default=None),
)
StatsNow = row(
    "StatsNow",
    "The totals: accepted = done + filtered + dead + leased + waiting; rates; processors.",
    (*TOTALS, *STATE, *RATES),
    processors=rows(ProcessorRow),
)
QueueNow = row(
    "QueueNow",
    "The totals, and the first of the waiting lines, each at most 2,000 characters.",
    (*TOTALS, *STATE, *SIZES),
    items=rows(row("WaitingLine", "A line that waits.", columns.WAITING)),
    next=(int | None, None),
)
History = create_model(
    "History",
    __doc__="The last seconds in which something changed, oldest first.",
    queue=rows(row("QueueSecond", "The totals at the end of a second.", columns.QUEUE_HISTORY)),
    processors=rows(
        row("ProcessorSecond", "A processor in one second.", columns.PROCESSOR_HISTORY)
    ),
)
DeadLetter = row(
    "DeadLetter",
    "A line that could not be processed; `raw` is in hex, and null if the line is UTF-8.",
    columns.DEAD_LETTERS,
)
TraceRow = row(
    "TraceRow",
    "The path of one line.",
    columns.TRACES,
    hop_seconds=_field(columns.TRACES["hop_seconds"], list[float]),
)
DeadLetterPage = page("DeadLetterPage", DeadLetter)
GroupPage = page("GroupPage", row("Group", "Dead letters of one kind.", columns.DEAD_LETTER_GROUPS))
ErrorPage = page(
    "ErrorPage",
    row("ErrorRow", "A failure of rows; they may have been tried again.", columns.ERRORS),
)
TracePage = page("TracePage", TraceRow)
WorkerPage = page("WorkerPage", row("WorkerRow", "A worker that runs.", columns.WORKERS))
