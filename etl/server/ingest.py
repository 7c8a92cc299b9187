"""`POST /logs`: from a request's body to lines on the disk.

Small bodies are committed in groups: what comes while a put is under way goes with the next
one, so that a sync of the disk is shared by all who wait for it. Long bodies are cut into
blocks of whole lines that are put as they come, so that memory is bounded.

A body with an idempotency key is a source of its own, whose position moves in the transaction
that puts its lines, just as that of a file does. A retry goes on where the first one ended,
and one that had ended well stores nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, NamedTuple, TypeAlias

import anyio
import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from etl.errors import EtlError
from etl.formats import get_format
from etl.queue import Checkpoint, Queue
from etl.records.batch import Batch, count_lines, new_id
from etl.server.logging import Log
from etl.server.models import EXAMPLE, Line, Name, Receipt
from etl.server.problems import PROBLEMS, Refused, refusal
from etl.server.security import RequestLimits
from etl.server.service import Service

__all__ = ["Ingest", "Post", "router"]

GROUPED = 64 << 10
"""Bytes up to which a body is small: it is put in one transaction with others."""

TEXT_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "")

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


class About(BaseModel):
    """What a request's query says of its lines."""

    source: Name = Field(default="http", description="What the lines say they come from.")
    format: Name | None = Field(
        default=None, description="Their format, as `etl run --format`; else it is detected."
    )


DEFAULTS = About()

Blocks: TypeAlias = AsyncIterator[tuple[bytes, bool]]
"""Whole lines as they come, each with whether it is the last; the last may lack its newline."""


@dataclass(frozen=True, slots=True)
class Post:
    """What a client says of its lines: their source, their format, its idempotency key."""

    source: str = "http"
    format: str | None = None
    key: str | None = None


@dataclass(slots=True)
class _Progress:
    """How far a body is stored, and a digest of all of it that has been seen."""

    batch: str = field(default_factory=new_id)
    batches: int = 0
    lines: int = 0
    offset: int = 0
    whole: bool = False
    checkpoint: Checkpoint | None = None
    digest: Any = field(default_factory=hashlib.sha256)

    @classmethod
    def of(cls, checkpoint: Checkpoint | None) -> _Progress:
        """Return what a position says; nothing is stored if there is none."""
        if checkpoint is None:
            return cls()
        _, batch, batches, whole = checkpoint.signature.split(":")
        return cls(
            batch=batch,
            batches=int(batches),
            lines=checkpoint.line_number,
            offset=checkpoint.offset,
            whole=whole == "whole",
            checkpoint=checkpoint,
        )

    @property
    def receipt(self) -> Receipt:
        """What the client is told."""
        return Receipt(accepted=self.lines, batch=self.batch, batches=self.batches)


class _Waiting(NamedTuple):
    text: bytes
    lines: int
    answer: asyncio.Future[Receipt]


class Ingest:
    """Puts what clients send.

    Args:
        queue: Where to.
        limits: What a request may cost.
        log: Where each put is noted.
    """

    def __init__(self, queue: Queue, limits: RequestLimits, log: Log) -> None:
        self.limits = limits
        self._queue = queue
        self._log = log
        self._waiting: deque[tuple[Post, _Waiting]] = deque()
        self._putting: asyncio.Task[None] | None = None
        self._threads = anyio.CapacityLimiter(8)

    async def take(self, blocks: Blocks, post: Post) -> Receipt:
        """Put all blocks of a body and return once they are durable.

        Raises:
            Refused: If not all of it could be stored; says how much was.
        """
        progress = _Progress()
        try:
            if post.key is not None:
                progress = _Progress.of(await self._in_thread(self._queue.checkpoint, _key(post)))
                return await self._take_keyed(blocks, post, progress)
            async for text, last in blocks:
                if last and not progress.batches and len(text) <= GROUPED:
                    return await self._put_grouped(text, post)
                if text:
                    await self._put(text, post, progress, last=last)
            return progress.receipt
        except (HTTPException, EtlError) as error:
            raise refusal(error, accepted=progress.lines) from error

    async def _take_keyed(self, blocks: Blocks, post: Post, progress: _Progress) -> Receipt:
        """Pass over what an earlier request with this key has stored, and put the rest."""
        known, skip, seen = progress.checkpoint, progress.offset, 0
        async for block, last in blocks:
            old, text = block[: skip - seen], block[skip - seen :]
            seen += len(old)
            progress.digest.update(old)
            if known and old and seen == skip:
                _check_same(progress, known)
            if progress.whole and text:
                raise _other_body()
            if seen == skip and not progress.whole and (text or last):
                await self._put(text, post, progress, last=last)
        if seen < skip:
            raise _other_body()
        stored_before = known is not None and progress.checkpoint is known
        return progress.receipt.model_copy(update={"duplicate": stored_before})

    async def _put(self, text: bytes, post: Post, progress: _Progress, *, last: bool) -> None:
        """Put one block of a body; with a key, only if no one else has moved its position."""
        lines = count_lines(text)
        number = f"-{progress.batches}" if progress.batches else ""
        batch = Batch(
            id=progress.batch + number,
            lines=lines,
            payload=text,
            source=post.source,
            first_line=progress.lines + 1,
            format=post.format,
        )
        new = replace(
            progress,
            batches=progress.batches + bool(text),
            lines=progress.lines + lines,
            offset=progress.offset + len(text),
        )
        checkpoint = None
        if post.key is not None:
            progress.digest.update(text)
            state = "whole" if last else "part"
            head = f"{progress.digest.hexdigest()}:{new.batch}:{new.batches}:{state}"
            checkpoint = Checkpoint(_key(post), new.offset, new.lines, head)
        started = time.monotonic()
        await self._in_thread(
            lambda: self._queue.put(
                batch,
                checkpoint=checkpoint,
                expected=progress.checkpoint,
                timeout=self.limits.timeout,
            )
        )
        self._note(batch, requests=1, started=started)
        progress.batches, progress.lines, progress.offset = new.batches, new.lines, new.offset
        progress.checkpoint = checkpoint

    async def _put_grouped(self, text: bytes, post: Post) -> Receipt:
        """Put a small body together with others that wait for the disk."""
        answer: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        if not text.endswith(b"\n"):
            text += b"\n"
        self._waiting.append((post, _Waiting(text, text.count(b"\n"), answer)))
        if self._putting is None or self._putting.done():
            self._putting = asyncio.create_task(self._put_groups())
        return await answer

    async def _put_groups(self) -> None:
        while self._waiting:
            groups = self._next_groups()
            answers = [waiting.answer for group in groups.values() for waiting in group]
            batches = [_batch(post, group) for post, group in groups.items()]
            started = time.monotonic()
            try:
                await self._in_thread(
                    lambda batches=batches: self._queue.put(*batches, block=False)
                )
            except Exception as error:  # noqa: BLE001 - each who waits is told
                for answer in answers:
                    if not answer.cancelled():
                        answer.set_exception(error)
                continue
            for batch, group in zip(batches, groups.values(), strict=True):
                _tell(batch, group)
                self._note(batch, requests=len(group), started=started)

    def _next_groups(self) -> dict[Post, list[_Waiting]]:
        """Take the bodies that are put next, by source and format: a batch has one of each."""
        groups: dict[Post, list[_Waiting]] = defaultdict(list)
        room = self.limits.block
        while self._waiting and room > 0:
            post, waiting = self._waiting.popleft()
            if not waiting.answer.cancelled():
                room -= len(waiting.text)
                groups[post].append(waiting)
        return groups

    def _note(self, batch: Batch, *, requests: int, started: float) -> None:
        seconds = round(time.monotonic() - started, 4)
        self._log.info(
            "stored", batch=batch.id, lines=batch.lines, requests=requests, seconds=seconds
        )

    async def _in_thread(self, call: Any, *arguments: Any) -> Any:
        return await anyio.to_thread.run_sync(call, *arguments, limiter=self._threads)


async def _take_post(request: Request) -> Response:
    limits: RequestLimits = request.app.state.ingest.limits
    try:
        receipt = await _store(request)
    except Refused as refused:
        if refused.status_code not in (408, 413):
            await _hear_out(request, limits)
        raise
    return Response(receipt.model_dump_json(), 202, media_type="application/json")


async def _store(request: Request) -> Receipt:
    service: Service = request.app.state.service
    ingest: Ingest = request.app.state.ingest
    if service.draining:
        raise Refused(503, "the server is draining; POST /resume lets it take lines again")
    post = _read_post(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return await ingest.take(_json_block(request, ingest.limits), post)
    if kind in TEXT_TYPES or kind.startswith("text/"):
        return await ingest.take(_text_blocks(request.stream(), ingest.limits), post)
    raise Refused(
        415,
        f"the body is {kind!r}; say Content-Type: text/plain, application/x-ndjson "
        "or application/json",
    )


async def _hear_out(request: Request, limits: RequestLimits) -> None:
    """Let a client send the rest for a while: many look for an answer only after that."""
    with contextlib.suppress(TimeoutError, HTTPException, RuntimeError):
        async with asyncio.timeout(limits.idle_timeout):
            async for _ in request.stream():
                pass


def _read_post(request: Request) -> Post:
    """Return what a request says of its lines, checked."""
    about, key = DEFAULTS, request.headers.get("idempotency-key")
    try:
        if request.scope["query_string"]:
            about = About.model_validate(dict(request.query_params))
        if key is not None:
            key = KEY.validate_python(key)
    except ValidationError as error:
        raise RequestValidationError(
            [
                one | {"loc": ("query", *(one["loc"] or ("idempotency-key",)))}
                for one in error.errors()
            ]
        ) from error
    return Post(about.source, about.format and get_format(about.format).name, key)


class _Direct(APIRoute):
    """A route whose declaration is for OpenAPI only.

    FastAPI's way of reading parameters costs more than all else that a single line costs.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what is called with a request."""
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
    about: Annotated[About, Query()],
    idempotency_key: Annotated[Key | None, Header()] = None,
) -> None:
    """Store lines; answers once they are on the disk.

    One line (`{"line": "…"}` or `"…"`) or a list of them as JSON, or any number as NDJSON or
    plain text, which are stored as they come. Lines keep their bytes.
    """


async def _json_block(request: Request, limits: RequestLimits) -> Blocks:
    """Yield the lines of a JSON body, as text."""
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
    lines = (
        [found.line] if isinstance(found, Line) else [found] if isinstance(found, str) else found
    )
    try:
        text = Batch.from_lines(lines).payload
    except ValueError as error:
        raise Refused(422, str(error)) from error
    if not isinstance(text, bytes) or not text:
        raise _empty()
    if max(map(len, text.split(b"\n"))) > limits.line:
        raise _too_long(limits)
    yield text, True


async def _text_blocks(body: AsyncIterator[bytes], limits: RequestLimits) -> Blocks:
    """Yield a text body in blocks of whole lines."""
    parts: list[bytes] = []
    size = begun = total = 0
    async for chunk in body:
        first, last = chunk.find(b"\n"), chunk.rfind(b"\n")
        max_wait = begun + (len(chunk) if first < 0 else first)
        begun = max_wait if first < 0 else len(chunk) - last - 1
        if max_wait > limits.line:
            raise _too_long(limits)
        parts.append(chunk)
        size += len(chunk)
        total += len(chunk)
        if size >= limits.block:
            text = b"".join(parts)
            end = len(text) - begun
            yield text[:end], False
            parts, size = [text[end:]], begun
    if not total:
        raise _empty()
    yield b"".join(parts), True


def _batch(post: Post, group: list[_Waiting]) -> Batch:
    return Batch(
        lines=sum(waiting.lines for waiting in group),
        payload=b"".join(waiting.text for waiting in group),
        source=post.source,
        format=post.format,
    )


def _tell(batch: Batch, group: list[_Waiting]) -> None:
    """Tell each who waits where its lines are."""
    number = 1
    for _, lines, answer in group:
        if not answer.cancelled():
            answer.set_result(Receipt(accepted=lines, batch=batch.id, first_line=number))
        number += lines


def _key(post: Post) -> str:
    return f"http:{post.key}"


def _check_same(progress: _Progress, before: Checkpoint) -> None:
    if progress.digest.hexdigest() != before.signature.partition(":")[0]:
        raise _other_body()


def _other_body() -> Refused:
    return Refused(422, "this Idempotency-Key came with another body before; use a new key")


def _empty() -> Refused:
    return Refused(422, "there is no line in the body")


def _too_long(limits: RequestLimits) -> Refused:
    return Refused(413, f"a line is longer than {limits.line:,} bytes; cut it")
