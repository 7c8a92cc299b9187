"""`POST /logs`: from a request's body to durable lines.

Small bodies are committed in groups: those that arrive while a put is in progress go with the
next one, so that all of them share one sync of the disk. Long bodies are cut into blocks of
whole records, each put as it arrives, so that memory is bounded.

A body with an idempotency key is a source of its own: its checkpoint moves in the transaction
that puts its lines, as that of a file does. A retry continues where the first request ended,
and stores nothing if that was the end of the body.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, TypeAlias

import anyio
import anyio.to_thread
import polars as pl
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from starlette.exceptions import HTTPException

from etl.errors import EtlError
from etl.formats import resolve_format
from etl.queue import Checkpoint, Queue
from etl.queue.protocol import KEY_SOURCE
from etl.records.batch import Batch, count_lines, new_id
from etl.records.context import AS_FOUND, Context, ReadOptions, Unmatched
from etl.server.logging import Log
from etl.server.models import EXAMPLE, Line, Name, Receipt
from etl.server.problems import PROBLEMS, Refused, refusal
from etl.server.security import RequestLimits
from etl.sources.framing import RecordBuffer, Sample, context_of_body

GROUPED = 64 << 10
"""Bytes up to which a body is small: it is put in one transaction with others."""

JSON_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
"""Of which each line is a record."""

TEXT_TYPES = (*JSON_TYPES, "")

JSON_LINES: TypeAdapter[str | list[str] | Line] = TypeAdapter(str | list[str] | Line)

Key = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="The same for a request and its retries, which are stored once.",
    ),
]
KEY: TypeAdapter[str] = TypeAdapter(Key)


class Origin(BaseModel, frozen=True):
    """The query of a request: where its lines come from, and how they are read."""

    source: Name = Field(default="http", description="The source of the lines.")
    format: Annotated[Name, AfterValidator(resolve_format)] | None = Field(
        default=None, description="Their format, as `etl run --format`; else it is detected."
    )
    multiline: Name = Field(
        default=AS_FOUND.multiline,
        description="Which lines of a text belong together: auto, off, or a regex of the first.",
    )
    timezone: Name = Field(
        default=AS_FOUND.timezone, description="IANA name of the zone of times that have none."
    )
    year: int | None = Field(default=None, description="Year of the first time that has none.")
    unmatched: Unmatched = Field(
        default=AS_FOUND.unmatched, description="What becomes of lines of no known format."
    )
    keep_line: bool = Field(
        default=False, description="Write the text of each record, where a sink leaves it out."
    )

    @model_validator(mode="after")
    def _usable(self) -> Origin:
        _options(self)
        return self

    @property
    def options(self) -> ReadOptions:
        """How its lines are read."""
        return _options(self)


@lru_cache(maxsize=256)
def _options(origin: Origin) -> ReadOptions:
    return ReadOptions(**origin.model_dump(exclude={"source"}))


HTTP = Origin()


class Block(NamedTuple):
    """Whole records of a body as they arrive.

    Attributes:
        text: Their text; that of the last block may lack its newline.
        last: Whether the body ends with it.
        context: What they are read by.
        records: The records as a frame, if their text does not tell where they begin.
    """

    text: bytes
    last: bool
    context: Context
    records: pl.DataFrame | None = None


Blocks: TypeAlias = AsyncIterator[Block]
Lines: TypeAlias = AsyncIterator[tuple[bytes, bool]]
"""Whole lines as they arrive, each with whether they are the last ones."""


@dataclass(slots=True)
class _Progress:
    """How much of a body is stored, and a digest of all of it that was read."""

    batch: str = field(default_factory=new_id)
    batches: int = 0
    lines: int = 0
    offset: int = 0
    whole: bool = False
    checkpoint: Checkpoint | None = None
    digest: Any = field(default_factory=hashlib.sha256)

    @classmethod
    def of(cls, checkpoint: Checkpoint | None) -> _Progress:
        """Return the progress that a checkpoint records; none without a checkpoint."""
        if checkpoint is None:
            return cls()
        _, batch, batches, state = checkpoint.signature.split(":")
        lines, offset = checkpoint.line_number, checkpoint.offset
        return cls(batch, int(batches), lines, offset, state == "whole", checkpoint)

    def check_digest(self) -> None:
        """Raise if the text that was read is not the text that was stored."""
        if self.checkpoint and not self.checkpoint.signature.startswith(self.digest.hexdigest()):
            raise _other_body()

    def after(self, text: bytes, lines: int, key: str | None, *, last: bool) -> _Progress:
        """Return the progress once a block is stored, with a checkpoint if there is a key."""
        new = replace(
            self,
            batches=self.batches + bool(text),
            lines=self.lines + lines,
            offset=self.offset + len(text),
        )
        if key is not None:
            self.digest.update(text)
            state = "whole" if last else "part"
            signature = f"{self.digest.hexdigest()}:{new.batch}:{new.batches}:{state}"
            new.checkpoint = Checkpoint(key, new.offset, new.lines, signature)
        return new


class _Waiting(NamedTuple):
    block: Block
    lines: int
    answer: asyncio.Future[Receipt]


class Ingest:
    """Puts the bodies of requests into a queue.

    Args:
        queue: The queue.
        limits: What a request may cost.
        log: The log, which has a line for each put.
    """

    def __init__(self, queue: Queue, limits: RequestLimits, log: Log) -> None:
        self.limits = limits
        self._queue = queue
        self._log = log
        self._waiting: deque[tuple[Origin, _Waiting]] = deque()
        self._putting: asyncio.Task[None] | None = None
        self._threads = anyio.CapacityLimiter(8)

    async def take(self, blocks: Blocks, origin: Origin, key: str | None) -> Receipt:
        """Put all blocks of a body, and return once they are durable.

        What an earlier request with the same key has stored is only compared.

        Raises:
            Refused: If not all of it could be stored; `accepted` is how much was.
        """
        progress = _Progress()
        try:
            if key is not None:
                key = f"{KEY_SOURCE}:{key}"
                progress = _Progress.of(await self._in_thread(self._queue.checkpoint, key))
            known, skip, seen = progress.checkpoint, progress.offset, 0
            async for block in blocks:
                last, whole = block.last, block.text
                if key is None and last and not progress.batches and len(whole) <= GROUPED:
                    return await self._put_grouped(block, origin)
                old, text = whole[: skip - seen], whole[skip - seen :]
                seen += len(old)
                progress.digest.update(old)
                if old and seen == skip:
                    progress.check_digest()
                if progress.whole and text:
                    raise _other_body()
                if seen == skip and not progress.whole and (text or (last and key)):
                    rest = block._replace(text=text)
                    progress = await self._put(rest, origin, progress, key)
            if seen < skip:
                raise _other_body()
        except (HTTPException, EtlError) as error:
            raise refusal(error, accepted=progress.lines) from error
        return Receipt(
            accepted=progress.lines,
            batch=progress.batch,
            batches=progress.batches,
            duplicate=known is not None and progress.checkpoint is known,
        )

    async def _put(
        self, block: Block, origin: Origin, progress: _Progress, key: str | None
    ) -> _Progress:
        """Put one block; with a key, only if no other request has moved its checkpoint."""
        batch = replace(
            _batch(origin, [block]),
            id=progress.batch + (f"-{progress.batches}" if progress.batches else ""),
            first_line=progress.lines + 1,
        )
        new = progress.after(block.text, batch.lines, key, last=block.last)
        started = time.monotonic()
        await self._in_thread(
            lambda: self._queue.put(
                batch,
                checkpoint=new.checkpoint,
                expected=progress.checkpoint,
                timeout=self.limits.put_timeout,
            )
        )
        self._note(batch, requests=1, started=started)
        return new

    async def _put_grouped(self, block: Block, origin: Origin) -> Receipt:
        """Put a small body together with others that wait for the disk."""
        answer: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        if not block.text.endswith(b"\n"):
            block = block._replace(text=block.text + b"\n")
        self._waiting.append((origin, _Waiting(block, block.text.count(b"\n"), answer)))
        if self._putting is None or self._putting.done():
            self._putting = asyncio.create_task(self._put_groups())
        return await answer

    async def _put_groups(self) -> None:
        while self._waiting:
            groups = self._next_groups()
            batches = [
                _batch(origin, [waiting.block for waiting in group])
                for (origin, *_), group in groups.items()
            ]
            started = time.monotonic()
            try:
                await self._in_thread(
                    lambda batches=batches: self._queue.put(*batches, block=False)
                )
            except Exception as error:  # noqa: BLE001 - raised in each request that waits
                for waiting in (one for group in groups.values() for one in group):
                    if not waiting.answer.cancelled():
                        waiting.answer.set_exception(error)
                continue
            for batch, group in zip(batches, groups.values(), strict=True):
                self._note(batch, requests=len(group), started=started)
                first = 1
                for _, lines, answer in group:
                    if not answer.cancelled():
                        answer.set_result(Receipt(accepted=lines, batch=batch.id, first_line=first))
                    first += lines

    def _next_groups(self) -> dict[tuple[Origin, Context, int], list[_Waiting]]:
        """Take the bodies that are put next, by origin and what they are read by.

        One that has records of several lines is a batch of its own: it ends its last record.
        """
        groups: dict[tuple[Origin, Context, int], list[_Waiting]] = defaultdict(list)
        room = self.limits.block
        while self._waiting and room > 0:
            origin, waiting = self._waiting.popleft()
            if not waiting.answer.cancelled():
                text, _, context, records = waiting.block
                room -= len(text)
                alone = records is not None or context.record_start is not None
                groups[origin, context, len(groups) + 1 if alone else 0].append(waiting)
        return groups

    def _note(self, batch: Batch, *, requests: int, started: float) -> None:
        seconds = round(time.monotonic() - started, 4)
        self._log.info(
            "stored", batch=batch.id, lines=batch.lines, requests=requests, seconds=seconds
        )

    async def _in_thread(self, call: Any, *arguments: Any) -> Any:
        return await anyio.to_thread.run_sync(call, *arguments, limiter=self._threads)


def _batch(origin: Origin, blocks: Sequence[Block]) -> Batch:
    """Return the batch of blocks that are read alike."""
    text = b"".join(block.text for block in blocks)
    records = blocks[0].records
    return Batch(
        lines=count_lines(text),
        payload=text if records is None else records,
        source=origin.source,
        format=origin.format,
        context=blocks[0].context,
    )


async def _take_post(request: Request) -> Response:
    ingest: Ingest = request.app.state.ingest
    try:
        receipt = await _store(request, ingest)
    except Refused as refused:
        if refused.status_code not in (408, 413):
            await read_rest(request, ingest.limits)
        raise
    return Response(receipt.model_dump_json(), 202, media_type="application/json")


async def _store(request: Request, ingest: Ingest) -> Receipt:
    if request.app.state.service.draining:
        raise Refused(503, "the server is draining; POST /resume lets it take lines again")
    origin, key = read_origin(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    options = origin.options
    if kind == "application/json":
        return await ingest.take(_json_block(request, ingest.limits, options), origin, key)
    if kind in TEXT_TYPES or kind.startswith("text/"):
        lines = _lines(request.stream(), ingest.limits)
        if kind in JSON_TYPES:
            options = replace(options, multiline="off")
        return await ingest.take(_text_blocks(lines, options), origin, key)
    raise Refused(
        415,
        f"unknown Content-Type {kind!r}; send text/plain, application/x-ndjson or application/json",
    )


async def read_rest(request: Request, limits: RequestLimits) -> None:
    """Let a client send the rest for a while: many read the answer only after that."""
    with contextlib.suppress(TimeoutError, HTTPException, RuntimeError):
        async with asyncio.timeout(limits.idle_timeout):
            async for _ in request.stream():
                pass


def read_origin(request: Request, default: Origin = HTTP) -> tuple[Origin, str | None]:
    """Return what the query says of the lines, and the idempotency key, both checked."""
    origin, key, place = default, request.headers.get("idempotency-key"), "query"
    try:
        if request.scope["query_string"]:
            given = default.model_dump(exclude_defaults=True) | dict(request.query_params)
            origin = Origin.model_validate(given)
        if key is not None:
            place = "idempotency-key"
            KEY.validate_python(key)
    except ValidationError as error:
        raise RequestValidationError(
            [one | {"loc": (place, *one["loc"])} for one in error.errors()]
        ) from error
    return origin, key


async def _json_block(request: Request, limits: RequestLimits, options: ReadOptions) -> Blocks:
    """Yield the elements of a JSON body, each of which is a record."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.small:
            raise Refused(413, f"JSON longer than {limits.small:,} bytes; stream it as NDJSON")
    try:
        found = JSON_LINES.validate_json(bytes(body))
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[-1]["msg"]
        raise Refused(
            422, f'{problem}; send {{"line": "…"}}, or a list of texts, or NDJSON'
        ) from error
    found = found.line if isinstance(found, Line) else found
    batch = Batch.from_lines([found] if isinstance(found, str) else found)
    records, text = None, batch.payload
    if isinstance(text, pl.DataFrame):
        records, text = text, b"".join(_bytes_of(text))
    if not isinstance(text, bytes) or not text:
        raise _empty()
    if max(map(len, text.split(b"\n"))) > limits.line:
        raise _too_long(limits)
    yield Block(text, True, options.context(modified=time.time()), records)


def _bytes_of(records: pl.DataFrame) -> Iterator[bytes]:
    """Yield the bytes of records, each with a newline at its end."""
    odd = records["raw"] if "raw" in records.columns else [None] * records.height
    for line, raw in zip(records["line"], odd, strict=True):
        yield (line.encode() if raw is None else raw) + b"\n"


async def _text_blocks(lines: Lines, options: ReadOptions) -> Blocks:
    """Yield a text body in blocks of whole records; what begins one is found in its first lines."""
    sample = Sample(options, time.time())
    buffer = RecordBuffer(sample)
    first = True
    async for text, last in lines:
        if first and last:
            yield Block(text, last, context_of_body(text, options))
            return
        first = False
        whole = b"".join(buffer.add(text)) + (buffer.rest() if last else b"")
        if whole or last:
            yield Block(whole, last, sample.context)
            sample.passed(whole)


async def _lines(body: AsyncIterator[bytes], limits: RequestLimits) -> Lines:
    """Yield a text body in blocks of whole lines."""
    parts: list[bytes] = []
    size = unfinished = total = 0
    async for chunk in body:
        first, last = chunk.find(b"\n"), chunk.rfind(b"\n")
        longest = unfinished + (len(chunk) if first < 0 else first)
        unfinished = longest if first < 0 else len(chunk) - last - 1
        if longest > limits.line:
            raise _too_long(limits)
        parts.append(chunk)
        size += len(chunk)
        total += len(chunk)
        if size >= limits.block:
            text = b"".join(parts)
            end = len(text) - unfinished
            yield text[:end], False
            parts, size = [text[end:]], unfinished
    if not total:
        raise _empty()
    yield b"".join(parts), True


def _empty() -> Refused:
    return Refused(422, "there is no line in the body")


def _other_body() -> Refused:
    return Refused(422, "this Idempotency-Key came with another body before; use a new key")


def _too_long(limits: RequestLimits) -> Refused:
    return Refused(413, f"a line is longer than {limits.line:,} bytes; cut it")


class _Direct(APIRoute):
    """A route whose declaration is for OpenAPI only.

    FastAPI's way of reading parameters costs more than all else that a single line costs.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request."""
        return _take_post


router = APIRouter(tags=["ingest"], route_class=_Direct)


@router.post(
    "/logs",
    status_code=202,
    response_model=Receipt,
    responses={code: PROBLEMS[code] for code in (408, 409, 413, 415, 422, 429, 503, 507)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "anyOf": [
                            {"type": "string", "minLength": 1},
                            {"type": "array", "items": {"type": "string"}, "minItems": 1},
                            Line.model_json_schema(),
                        ]
                    },
                    "examples": {
                        "one line": {"value": {"line": EXAMPLE}},
                        "a list": {"value": [EXAMPLE, EXAMPLE]},
                    },
                },
                "text/plain": {"schema": {"type": "string"}, "example": f"{EXAMPLE}\n"},
                "application/x-ndjson": {
                    "schema": {"type": "string"},
                    "example": '{"level": "INFO", "message": "ready"}\n',
                },
            },
        }
    },
)
async def post_logs(
    origin: Annotated[Origin, Query()],
    idempotency_key: Annotated[Key | None, Header()] = None,
) -> None:
    """Store lines, and answer once they are durable.

    JSON has one line (`{"line": "…"}` or `"…"`) or a list of lines. NDJSON and plain text have
    any number, and are stored while they arrive. The bytes of the lines are kept.
    """
