"""Users: their settings; everything of one out, in again, and away for good."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import IO, Any

from luma_memory.client.asynchronous.connection import Connection
from luma_memory.client.calls import Call, plain, read, segment, write
from luma_memory.client.lines import Lines
from luma_memory.client.responses import parsed
from luma_memory.protocol.users import ImportedBody, ReceiptBody, UserBody, UserEditBody

_PIECE_BYTES = 65_536
# Statements over everything of a user, not over one block.
_WHOLE_USER_SECONDS = 300.0


class Users(Connection):
    """Users as a whole. Out, in and away need the permission `admin`."""

    async def get_user(self, user_id: str) -> UserBody:
        """A user's settings; one of whom nothing is stored has the defaults."""
        return parsed(UserBody, await self._send(read(f"/users/{segment(user_id)}")))

    async def edit_user(
        self,
        user_id: str,
        changes: UserEditBody | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
    ) -> UserBody:
        """Change a user's settings: `{"time_zone": "Europe/Lisbon"}`; what is left out stays.

        A new time zone holds for the weeks that are told from now on.
        """
        call = write(
            "PATCH",
            f"/users/{segment(user_id)}",
            plain(changes),
            idempotency_key=idempotency_key,
        )
        return parsed(UserBody, await self._send(call))

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
