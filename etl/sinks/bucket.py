"""Objects in a bucket: s3://, gs://, az://, and what else fsspec writes to by a URL."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

import polars as pl

from etl.errors import UsageError
from etl.processors.processor import Delivery, only_polars
from etl.sinks.parquet import typed
from etl.sinks.target import MAX_SPOOL_BYTES, Address, SpooledFile, Target, require

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Bucket"]


@only_polars
@dataclass(frozen=True)
class Bucket(Target):
    """Write each batch as a Parquet object below a URL, once.

    An object appears when all of it was sent, and its name is that of its batch: one that is
    sent again, as a loader was killed before the answer, replaces itself.

    Args:
        url: Where to, such as `s3://bucket/lines`. Credentials come from where the store's
            client looks for them.
        compression: A Parquet codec that Polars knows: zstd, lz4, snappy, ...
        leave_out: Columns that are not written; `line` is if the run keeps it (`--keep-line`).
        timeout: Seconds for which `etl run` waits at its end while the bucket fails.
        max_spool_bytes: Bytes of files that may wait for it; while there are more, workers
            lease nothing.

    Raises:
        UsageError: If nothing that is installed writes to such a URL.
    """

    url: str = field(repr=False)
    compression: str = field(default="zstd", kw_only=True)
    leave_out: Sequence[str] = field(default=(), kw_only=True)
    timeout: float = field(default=30.0, kw_only=True)
    max_spool_bytes: int = field(default=MAX_SPOOL_BYTES, kw_only=True)

    together: ClassVar[bool] = False
    of_data_set: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Find the library."""
        object.__setattr__(self, "url", Address(self.url))
        require("fsspec", f"the bucket {self.address}", "remote")
        from fsspec import get_filesystem_class

        try:
            get_filesystem_class(self.address.scheme or "file")
        except (ImportError, ValueError) as error:
            raise UsageError(f"nothing writes to {self.address}: {error}") from error

    @property
    def place(self) -> str:
        """Nothing: the URL says it."""
        return ""

    def agree(self, frame: pl.DataFrame, delivery: Delivery) -> None:
        """Have the types of new columns remembered: all objects have the same."""
        delivery.schemas.agree(delivery.out / self.spool, delivery.without(frame, self.leave_out))

    def fit(self, frame: pl.DataFrame, delivery: Delivery) -> pl.DataFrame:
        """Return the rows with all columns; those with another type in one are rejected."""
        rows = typed(delivery.without(frame, self.leave_out), delivery.out / self.spool, delivery)
        return rows.with_columns(pl.col(pl.Null).cast(pl.String))

    @contextmanager
    def session(self) -> Iterator[BucketSession]:
        """Open the bucket's file system."""
        from fsspec.core import url_to_fs

        yield BucketSession(self, *url_to_fs(self.address.secret))


@dataclass(frozen=True, slots=True)
class BucketSession:
    """A bucket while files are written to it.

    Attributes:
        target: The target.
        system: The bucket's file system.
        path: Where in it.
    """

    target: Bucket
    system: AbstractFileSystem
    path: str

    def loaded(self, ids: Sequence[str]) -> set[str]:  # noqa: ARG002
        """Return nothing: what is sent again replaces itself."""
        return set()

    def load(self, files: Sequence[SpooledFile]) -> None:
        """Write each file as an object."""
        for file in files:
            data = io.BytesIO()
            file.rows().write_parquet(data, compression=self.target.compression)  # type: ignore[arg-type]
            name = f"{self.path.rstrip('/')}/{quote(file.id, safe='~')}.parquet"
            self.system.pipe_file(name, data.getvalue())
