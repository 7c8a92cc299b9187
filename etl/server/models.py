"""What the server answers, and what it is asked: typed, with examples, for OpenAPI.

Times are Unix seconds, durations seconds, counts source lines unless said otherwise.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "EXAMPLE",
    "Control",
    "DeadLetter",
    "DeadLetterId",
    "Discard",
    "DiscardAnswer",
    "ErrorRow",
    "Group",
    "Health",
    "History",
    "Line",
    "Name",
    "Page",
    "ProblemDetail",
    "ProcessorRow",
    "QueueNow",
    "Receipt",
    "Replay",
    "ReplayAnswer",
    "StatsNow",
    "TraceRow",
    "WorkerRow",
]

Row = TypeVar("Row")

MAX_IDS = 10_000

EXAMPLE = "2026-11-22 09:00:00,000 INFO shop: user 17 logged in"
"""A line of a format that is detected."""

Name = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
]
"""A short text without control characters."""

DeadLetterId = Annotated[int, Field(ge=1, le=2**63 - 1)]


def example(**values: Any) -> ConfigDict:
    """Return a model's configuration with an example in it."""
    return ConfigDict(extra="ignore", json_schema_extra={"examples": [values]})


class ProblemDetail(BaseModel):
    """Why a request was refused; `accepted` lines of it were stored all the same."""

    model_config = example(error="the queue is full; wait for workers to catch up", accepted=0)

    error: str
    accepted: int = 0


class Line(BaseModel):
    """One log line."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"line": EXAMPLE}]})

    line: str


class Receipt(BaseModel):
    """Lines that are on the disk.

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
    duplicate: bool = Field(default=False, description="It was stored before, under the same key.")


class Page(BaseModel, Generic[Row]):
    """Some rows; `next` is the `offset` of the page that follows, or null."""

    items: list[Row]
    next: int | None = None


class Totals(BaseModel):
    """Where all lines are: accepted = done + filtered + dead + leased + waiting."""

    accepted: int
    done: int
    filtered: int
    dead: int
    leased: int
    waiting: int
    conserved: bool
    paused: bool
    oldest_age: float = Field(description="Seconds that the oldest waiting batch has waited.")


TOTALS = {
    "accepted": 1000,
    "done": 900,
    "filtered": 40,
    "dead": 10,
    "leased": 0,
    "waiting": 50,
    "conserved": True,
    "paused": False,
    "oldest_age": 0.4,
}


class ProcessorRow(BaseModel):
    """What one processor did; percentiles are seconds per line, `rate` lines per busy second."""

    worker: str | None = None
    processor: str
    received: int
    emitted: int
    filtered: int
    errors: int
    retries: int
    dead: int
    seconds: float
    p50: float
    p95: float
    p99: float
    rate: float


PROCESSOR = {
    "processor": "parse",
    "received": 1000,
    "emitted": 990,
    "filtered": 0,
    "errors": 10,
    "retries": 0,
    "dead": 10,
    "seconds": 0.02,
    "p50": 2e-05,
    "p95": 2e-05,
    "p99": 3e-05,
    "rate": 50_000.0,
}


class StatsNow(Totals):
    """The store's totals, its rates over ten seconds, and a row per processor."""

    model_config = example(
        **TOTALS, accepted_per_second=100.0, done_per_second=90.0, processors=[PROCESSOR]
    )

    accepted_per_second: float
    done_per_second: float
    processors: list[ProcessorRow]


class TraceRow(BaseModel):
    """The path of one line, with the seconds at each hop."""

    model_config = example(
        at=1795300000.0,
        worker="host-1",
        batch="064a1e5b7c9d10f3a2b4c5d6",
        source="http",
        version="8d5f",
        line_number=1,
        line="warn: disk space low",
        state="done",
        path=["start", "warn", "end"],
        hop_seconds=[1e-05, 1e-05, 1e-05],
        seconds=3e-05,
    )

    at: float
    worker: str
    batch: str
    source: str
    version: str
    line_number: int
    line: str
    state: str
    path: list[str]
    hop_seconds: list[float]
    seconds: float


class ErrorRow(BaseModel):
    """An error, whatever became of its lines: `action` is dead, dropped or retried."""

    model_config = example(
        at=1795300000.0,
        worker="host-1",
        batch="064a1e5b7c9d10f3a2b4c5d6",
        processor="check",
        error="poison",
        message="a CRITICAL line is poison",
        lines=1,
        action="dead",
    )

    at: float
    worker: str
    batch: str
    processor: str
    error: str
    message: str
    lines: int
    action: str


class WaitingLine(BaseModel):
    """A line that waits; at most its first 2,000 characters."""

    batch: str
    put_at: float
    source: str
    line_number: int
    line: str
    format: str | None = None


class QueueNow(Totals):
    """The store's totals and the first of its waiting lines."""

    model_config = example(
        **TOTALS,
        waiting_bytes=5000,
        waiting_batches=2,
        leased_batches=0,
        items=[
            {
                "batch": "064a1e5b7c9d10f3a2b4c5d6",
                "put_at": 1795300000.0,
                "source": "http",
                "line_number": 1,
                "line": "INFO ready",
                "format": None,
            }
        ],
        next=None,
    )

    waiting_bytes: int
    waiting_batches: int
    leased_batches: int
    items: list[WaitingLine]
    next: int | None = None


class WorkerRow(BaseModel):
    """A worker that runs, and the batch that it has."""

    model_config = example(
        name="host-1",
        slot=0,
        host="host",
        pid=4711,
        started_at=1795300000.0,
        heartbeat_at=1795300005.0,
        batch=None,
    )

    name: str
    slot: int
    host: str
    pid: int
    started_at: float
    heartbeat_at: float
    batch: str | None


class QueueSecond(BaseModel):
    """The totals as they stood at the end of a second."""

    second: int
    accepted: int
    done: int
    filtered: int
    dead: int
    waiting: int
    leased: int


class ProcessorSecond(BaseModel):
    """What a processor did in a second."""

    second: int
    processor: str
    received: int
    emitted: int
    filtered: int
    errors: int
    retries: int
    dead: int
    seconds: float


class History(BaseModel):
    """The last seconds in which something changed, oldest first."""

    model_config = example(
        queue=[
            {
                "second": 1795300000,
                "accepted": 1000,
                "done": 900,
                "filtered": 40,
                "dead": 10,
                "waiting": 50,
                "leased": 0,
            }
        ],
        processors=[],
    )

    queue: list[QueueSecond]
    processors: list[ProcessorSecond]


class Group(BaseModel):
    """One kind of failure."""

    model_config = example(
        fingerprint="1f2e3d4c5b6a",
        processor="check",
        code="poison",
        error="",
        message="a CRITICAL line is poison",
        sample="CRITICAL disk gone",
        lines=1,
        replays=0,
        first_failed_at=1795300000.0,
        last_failed_at=1795300000.0,
    )

    fingerprint: str
    processor: str
    code: str
    error: str
    message: str
    sample: str
    lines: int
    replays: int
    first_failed_at: float
    last_failed_at: float


class DeadLetter(BaseModel):
    """A dead letter: a line that could not be processed, and all that is known of it.

    `raw` is the line's bytes in hex if it is not UTF-8; `payload` its fields at failure.
    """

    model_config = example(
        id=1,
        status="open",
        source="http",
        line_number=1,
        lines=1,
        line="CRITICAL disk gone",
        raw=None,
        format=None,
        payload={"level": "CRITICAL"},
        processor="check",
        code="poison",
        error="",
        message="a CRITICAL line is poison",
        traceback="",
        attempts=1,
        replays=0,
        first_failed_at=1795300000.0,
        last_failed_at=1795300000.0,
        path=["level", "check"],
        version="8d5f",
        run="",
        fingerprint="1f2e3d4c5b6a",
        batch="064a1e5b7c9d10f3a2b4c5d6",
    )

    id: int
    status: str
    source: str
    line_number: int
    lines: int
    line: str
    raw: str | None
    format: str | None
    payload: Any
    processor: str
    code: str
    error: str
    message: str
    traceback: str
    attempts: int
    replays: int
    first_failed_at: float
    last_failed_at: float
    path: list[str]
    version: str
    run: str
    fingerprint: str
    batch: str


class Control(BaseModel):
    """Whether workers may take batches, and whether this server takes lines no more."""

    model_config = example(paused=False, draining=False)

    paused: bool
    draining: bool


class Discard(BaseModel):
    """Which open dead letters: those for which everything that is given holds, or `all`."""

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
        """What picks them, for `DeadLetters`."""
        names = ("ids", "fingerprint", "processor", "code", "source")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}


class Replay(Discard):
    """Which open dead letters; `force` also those that died again three times."""

    force: bool = False


class ReplayAnswer(BaseModel):
    """How many lines wait again."""

    model_config = example(replayed=2)

    replayed: int


class DiscardAnswer(BaseModel):
    """How many dead letters were closed for good."""

    model_config = example(discarded=2)

    discarded: int


class Health(BaseModel):
    """`ok`, or why not."""

    model_config = example(status="ok")

    status: str
