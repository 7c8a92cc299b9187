"""Every environment variable, and every default and limit that more than one place needs, once.

    settings().runs          what the environment says, read at each call
    Settings.batch_lines     a default

| variable      | what it is                                                            |
|---------------|-----------------------------------------------------------------------|
| `ETL_STORE`   | the store's URL, where no `--store` is given                          |
| `ETL_RUNS`    | the folder in which runs are recorded; `data/runs` without it         |
| `ETL_FORMATS` | a TOML file of formats of one's own; `etl-formats.toml` without it    |
| `ETL_KAFKA`   | a file of librdkafka's properties, such as passwords; none without it |
| `ETL_TOKEN`   | what clients of the HTTP server must show                             |
| `ETL_RETENTION_DAYS` | days for which a store keeps dead letters that were closed; 30 without it |
| `ETL_ERROR_FILE` | where a worker process writes why it ended; set by whoever starts it |
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from etl.errors import UsageError

__all__ = ["ALLOCATOR", "Settings", "kafka_properties", "settings"]


@dataclass(frozen=True)
class Settings:
    """What the environment says, and the defaults.

    Attributes:
        store: URL of the store, or None.
        runs: Folder in which runs are recorded.
        formats: TOML file with formats of the user's own, or None.
        kafka: File of properties for clients of Kafka, or None.
        token: What clients of the HTTP server must show, or None.
        error_file: Where a worker process writes why it ended, or None.
        retention_seconds: Seconds for which a store keeps dead letters that were replayed or
            discarded; open ones are kept for good.
        formats_file: The file of formats that is used, if it is there, when none is named.
        pipeline: The pipeline that is used when none is named.
        workers: Worker processes of a run: one per core that this process may use.
        batch_lines: Lines that a worker takes together.
        lease_seconds: Seconds that a batch stays with a worker unless renewed.
        max_waiting_bytes: Bytes of text from streams that may wait.
        max_line_bytes: Bytes of a line; a longer one is cut into pieces of so many.
        max_expansion: How many times its size on disk the text of a compressed file may have.
        max_replays: Replays after which a dead letter is only replayed when forced.
        retention_days: Days for which they are kept, if the environment says nothing.
        max_columns: Columns that a data set may have.
        kept_traces: Lines whose paths a store keeps.
        traces_per_second: Lines a second whose paths a worker records; and all that are
            replayed, dead, or alone in their batch.
        kept_errors: Recent errors that a store keeps.
        kept_workers: Workers that have ended of which a store counts apart what they did.
        history_seconds: Seconds of history that a store keeps.
        key_seconds: Seconds for which a store knows an idempotency key, if that is less than
            the retention.
        server_port: Port of the HTTP server.
        lab_port: Port of JupyterLab.
        app_port: Port of the control room as a web page.
    """

    store: str | None
    runs: Path
    formats: Path | None
    kafka: Path | None
    token: str | None
    error_file: Path | None
    retention_seconds: float

    formats_file: ClassVar[Path] = Path("etl-formats.toml")
    pipeline: ClassVar[str] = "etl.default:pipeline"
    workers: ClassVar[int] = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    batch_lines: ClassVar[int] = 50_000
    lease_seconds: ClassVar[float] = 30.0
    max_waiting_bytes: ClassVar[int] = 512 << 20
    max_line_bytes: ClassVar[int] = 16 << 20
    max_expansion: ClassVar[int] = 1_000
    max_replays: ClassVar[int] = 3
    max_columns: ClassVar[int] = 1_000
    kept_traces: ClassVar[int] = 1_000
    traces_per_second: ClassVar[int] = 200
    kept_errors: ClassVar[int] = 1_000
    kept_workers: ClassVar[int] = 100
    history_seconds: ClassVar[int] = 3_600
    key_seconds: ClassVar[int] = 7 * 86_400
    retention_days: ClassVar[int] = 30
    server_port: ClassVar[int] = 8000
    lab_port: ClassVar[int] = 8888
    app_port: ClassVar[int] = 8866


ALLOCATOR = {
    "_RJEM_MALLOC_CONF": f"narenas:{Settings.workers},dirty_decay_ms:10000,muzzy_decay_ms:10000"
}
"""In the environment when Polars is imported: memory that is freed is kept for the next batch.

An arena a core, rather than four, keeps a fifth less of it.
"""


def settings() -> Settings:
    """Return what the environment says now.

    Raises:
        UsageError: If a variable has no value that can be used.
    """
    given = os.environ.get
    error_file, formats = given("ETL_ERROR_FILE"), given("ETL_FORMATS")
    kafka = given("ETL_KAFKA")
    return Settings(
        store=given("ETL_STORE") or None,
        runs=Path(given("ETL_RUNS") or "data/runs"),
        formats=Path(formats) if formats else None,
        kafka=Path(kafka) if kafka else None,
        token=given("ETL_TOKEN") or None,
        error_file=Path(error_file) if error_file else None,
        retention_seconds=86_400 * _days("ETL_RETENTION_DAYS", Settings.retention_days),
    )


def kafka_properties() -> dict[str, str]:
    """Return what the file says that `ETL_KAFKA` names: lines of a name, `=` and a value.

    Raises:
        UsageError: If it cannot be read.
    """
    file = settings().kafka
    if file is None:
        return {}
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except OSError as error:
        raise UsageError(f"ETL_KAFKA names {str(file)!r}: {error.strerror}") from error
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name.strip(): value.strip() for name, _, value in pairs}


def _days(variable: str, default: float) -> float:
    text = os.environ.get(variable) or str(default)
    try:
        days = float(text)
    except ValueError:
        days = 0.0
    if not 0 < days < float("inf"):
        raise UsageError(f"{variable} must be a number of days above 0, got {text!r}")
    return days
