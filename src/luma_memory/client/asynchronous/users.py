"""Users: everything of one out, in again, and away for good."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import IO

from luma_memory.client.answers import parsed
from luma_memory.client.asynchronous.connection import Connection
from luma_memory.client.calls import Call, read, segment, write
from luma_memory.client.lines import Lines
from luma_memory.protocol.users import ImportedBody, ReceiptBody

_PIECE_BYTES = 65_536
# Statements over everything of a user, not over one block.
_WHOLE_USER_SECONDS = 300.0


class Users(Connection):
    """Whole users; needs the permission `admin`."""

    async def export_user(self, user_id: str) -> AsyncIterator[bytes]:
        """All rows of a user as JSON lines, each with its line break, as they arrive.

        Raises UnavailableError (code export_incomplete or connection_lost) when the end does not
        come: what came until then is no export.
        """
        call, lines = read(f"/users/{segment(user_id)}/export"), Lines()
        async with self._opened(call, streamed=True) as response:
            async for piece in response.aiter_bytes():
                for line in lines.take(piece):
                    yield line
        lines.check_end()

    async def import_user(
        self, user_id: str, lines: AsyncIterable[bytes] | IO[bytes]
    ) -> ImportedBody:
        """Store an export again, for the same user or another one; never overwrites.

        lines: of `export_user`, or a file that is open for reading. They are read once, so that
        this is not tried again by itself; it may be repeated with a new reader.
        """
        call = Call(
            "POST",
            f"/users/{segment(user_id)}/import",
            {"Content-Type": "application/x-ndjson"},
            is_repeatable=False,
            timeout_seconds=_WHOLE_USER_SECONDS,
        )
        return parsed(ImportedBody, await self._upload(call, _pieces(lines)))

    async def erase_user(self, user_id: str, *, idempotency_key: str | None = None) -> ReceiptBody:
        """Erase a user for good. Keep the receipt: `luma-memory verify-erasure` checks it."""
        call = write(
            "DELETE",
            f"/users/{segment(user_id)}",
            idempotency_key=idempotency_key,
            timeout_seconds=_WHOLE_USER_SECONDS,
        )
        return parsed(ReceiptBody, await self._send(call))


async def _pieces(lines: AsyncIterable[bytes] | IO[bytes]) -> AsyncIterator[bytes]:
    if isinstance(lines, AsyncIterable):
        async for line in lines:
            yield line
    else:
        while piece := lines.read(_PIECE_BYTES):
            yield piece
