"""What is too large for a message of the journal: cut into chunks, in a stream of its own."""

from __future__ import annotations

import asyncio
import secrets
import zlib
from collections.abc import Callable
from functools import partial

from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

from etl.errors import StoreError, StoreFull
from etl.queue.nats.address import Address
from etl.queue.nats.link import Link

__all__ = ["BlobGone", "Blobs", "id_of", "made_at"]

CHUNK = 512 * 1024
"""Bytes of a chunk at most; a server takes 1 MB by default."""


class BlobGone(StoreError):
    """A blob was removed, as nothing needs it any more."""


class Blobs:
    """Puts, gets and removes blobs; all of it in the link's thread.

    A blob is named by its id, which tells when it was made, the number of its
    chunks and the CRC-32 of its bytes. `clock` returns the servers' time.
    """

    def __init__(
        self, link: Link, address: Address, name: str, *, clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._link = link
        self._address = address
        self._name = name

    @property
    def chunk(self) -> int:
        """Bytes that go into one message."""
        return min(CHUNK, self._link.max_payload // 2)

    async def put(self, data: bytes) -> str:
        """Store bytes and return the blob's name.

        Raises:
            StoreFull: If there is no room for all of them; then none is kept.
        """
        id = f"{round(self._clock() * 1e6):014x}{secrets.token_hex(5)}"
        size = self.chunk
        chunks = [data[start : start + size] for start in range(0, len(data), size)]
        try:
            for number, chunk in enumerate(chunks):
                subject = self._address.subject(f"blob.{id}.{number}")
                await self._link.insist(partial(_publish, subject, chunk))
        except StoreFull:
            await self.drop(id)
            raise
        return f"{id}/{len(chunks)}/{zlib.crc32(data)}"

    async def get(self, blob: str) -> bytes:
        """Return the bytes of a blob.

        Raises:
            BlobGone: If it was removed.
        """
        id, count, checksum = blob.split("/")
        subjects = [self._address.subject(f"blob.{id}.{number}") for number in range(int(count))]
        data = b"".join([await self._get_chunk(subject) for subject in subjects])
        if zlib.crc32(data) != int(checksum):
            raise StoreError(f"blob {id} of {self._name} is not what was stored")
        return data

    async def _get_chunk(self, subject: str) -> bytes:
        """Ask any node for a chunk, and then, as that may be behind, the one that leads."""
        for direct in (True, False, False):
            try:
                found = await self._link.insist(
                    lambda js, direct=direct: js.get_msg(  # type: ignore[misc]
                        self._address.blobs, subject=subject, direct=direct
                    )
                )
            except NotFoundError:
                await asyncio.sleep(0.05)
            else:
                return bytes(found.data or b"")
        raise BlobGone(f"{subject} is gone from {self._name}")

    async def drop(self, id: str) -> None:
        """Remove a blob; one that is gone already is fine."""
        subject = self._address.subject(f"blob.{id}.*")
        await self._link.ask(lambda js: js.purge_stream(self._address.blobs, subject=subject))

    async def ids(self) -> set[str]:
        """Return the ids of all blobs."""
        every = self._address.subject("blob.>")
        info = await self._link.ask(
            lambda js: js.stream_info(self._address.blobs, subjects_filter=every)
        )
        return {subject.split(".")[3] for subject in info.state.subjects or ()}


async def _publish(subject: str, data: bytes, js: JetStreamContext) -> api.PubAck:
    return await js.publish(subject, data)


def id_of(blob: str) -> str:
    """Return the id in a blob's name."""
    return blob.partition("/")[0]


def made_at(id: str) -> float:
    """Return when a blob was made, in Unix seconds of the servers."""
    return int(id[:14], 16) / 1e6
