"""Users: lists, settings, export, import and erasure."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import replace
from typing import IO, Any

from luma_memory.client.asynchronous.connection import Connection
from luma_memory.client.calls import Call, plain, read, segment, write
from luma_memory.client.import_report import ImportReport
from luma_memory.client.lines import Lines
from luma_memory.client.responses import parsed
from luma_memory.domain.user import UserSort
from luma_memory.protocol.users import (
    ImportedBody,
    ImportReportBody,
    ReceiptBody,
    SessionPageBody,
    TermProfileBody,
    UserBody,
    UserEditBody,
    UserEntryBody,
    UserPageBody,
)

_PIECE_BYTES = 65_536
# Operations on all data of a user, not on one block.
_WHOLE_USER_SECONDS = 300.0


class Users(Connection):
    """Users as a whole. Export, import and erasure require the permission `admin`."""

    async def list_users(
        self,
        *,
        prefix: str | None = None,
        sort: UserSort | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> UserPageBody:
        """One page of the project's users with their counts, the last active first."""
        call = read("/users", prefix=prefix, sort=sort, limit=limit, cursor=cursor)
        return parsed(UserPageBody, await self._send(call))

    async def iterate_users(
        self,
        *,
        prefix: str | None = None,
        sort: UserSort | None = None,
        page_size: int | None = None,
    ) -> AsyncIterator[UserEntryBody]:
        """All users that `list_users` has, fetched page by page."""
        cursor: str | None = None
        while True:
            page = await self.list_users(prefix=prefix, sort=sort, limit=page_size, cursor=cursor)
            for user in page.users:
                yield user
            if (cursor := page.next_cursor) is None:
                return

    async def list_sessions(
        self,
        user_id: str,
        *,
        prefix: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SessionPageBody:
        """One page of a user's sessions, the one with the newest block first."""
        path = f"/users/{segment(user_id)}/sessions"
        call = read(path, prefix=prefix, limit=limit, cursor=cursor)
        return parsed(SessionPageBody, await self._send(call))

    async def list_terms(self, user_id: str, *, limit: int | None = None) -> TermProfileBody:
        """The most frequent tags of a user's newest 10,000 blocks, with their numbers of blocks."""
        call = read(f"/users/{segment(user_id)}/terms", limit=limit)
        return parsed(TermProfileBody, await self._send(call))

    async def get_user(self, user_id: str) -> UserBody:
        """A user's settings; an unknown user has the defaults."""
        return parsed(UserBody, await self._send(read(f"/users/{segment(user_id)}")))

    async def edit_user(
        self,
        user_id: str,
        changes: UserEditBody | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
    ) -> UserBody:
        """Change a user's settings: `{"time_zone": "Europe/Lisbon"}`.

        A new time zone applies to weeks summarized from now on.
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

        Raises UnavailableError (code export_incomplete or connection_lost) if the export is cut
        off; the lines yielded so far are then incomplete.
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
        """Import an export, for the same user or another one; never overwrites.

        lines: from `export_user`, or a file open for reading. They are read once, so the call is
        not retried automatically; it is safe to repeat with a new reader.
        """
        call = Call(
            "POST",
            f"/users/{segment(user_id)}/import",
            {"Content-Type": "application/x-ndjson"},
            is_repeatable=False,
            timeout_seconds=_WHOLE_USER_SECONDS,
        )
        return parsed(ImportedBody, await self._upload(call, _pieces(lines)))

    async def import_file(
        self,
        user_id: str,
        file: AsyncIterable[bytes] | IO[bytes],
        *,
        export_format: str = "auto",
        file_name: str | None = None,
        time_zone: str | None = None,
        date_order: str | None = None,
        mapping: Mapping[str, Any] | None = None,
        speakers: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> ImportReportBody:
        """Import another system's export: a file or a zip archive, open for reading.

        export_format: as `luma-memory import --format` has it. file_name: its ending distinguishes
        transcripts and notes. mapping: of any JSON or CSV, the fields of a mapping file. speakers:
        users by the names of speakers. dry_run: count, and store nothing. Importing again stores
        nothing twice. The file is read once, so the call is not retried automatically. Raises
        Invalid, UnavailableError (code
        export_incomplete) if the report is cut off.
        """
        call = read(
            f"/users/{segment(user_id)}/import",
            format=export_format,
            file_name=file_name,
            time_zone=time_zone,
            date_order=date_order,
            mapping=json.dumps(mapping) if mapping is not None else None,
            map=tuple(f"{name}={user}" for name, user in (speakers or {}).items()),
            dry_run=dry_run or None,
        )
        call = replace(
            call,
            method="POST",
            headers={"Content-Type": "application/octet-stream"},
            is_repeatable=False,
            timeout_seconds=_WHOLE_USER_SECONDS,
        )
        report = ImportReport()
        async with self._uploading(call, _pieces(file)) as response:
            async for piece in response.aiter_bytes():
                report.take(piece)
        return report.ended()

    async def erase_user(self, user_id: str, *, idempotency_key: str | None = None) -> ReceiptBody:
        """Erase a user permanently. Keep the receipt: `luma-memory verify-erasure` verifies it."""
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
