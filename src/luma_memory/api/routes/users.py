"""Users: settings, export, import and erasure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Path, Request
from fastapi.responses import StreamingResponse

from luma_memory.api.lines import json_lines
from luma_memory.api.problems import RESPONSES
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.domain.errors import Invalid
from luma_memory.protocol.users import ImportedBody, ReceiptBody, UserBody, UserEditBody
from luma_memory.protocol.validation import Name

LINES = "application/x-ndjson"
# A million blocks with their vectors.
IMPORT_BYTES_MAX = 16 * 1024**3
IMPORT_PATH_END = "/import"
SETTINGS_BYTES_MAX = 10_000

router = APIRouter(prefix="/users", tags=["users"], route_class=ProtectedRoute)
UserId = Annotated[Name, Path(description="Your own id of the end user.")]
_LINES_RESPONSE = {
    "description": "One row per line; the last line confirms that the export is complete.",
    "content": {LINES: {"schema": {"type": "string"}}},
}


@router.get("/{user_id}", responses=RESPONSES, **permission("read"))
async def read_user(user_id: UserId, service: ServiceDep, caller: CallerDep) -> UserBody:
    """A user's settings. An unknown user has the defaults."""
    scope = caller.scope(user_id)
    return UserBody.of(scope, await service.users.read(scope))


@router.patch(
    "/{user_id}", responses=RESPONSES, max_body_size=SETTINGS_BYTES_MAX, **permission("ingest")
)
async def edit_user(
    user_id: UserId, body: UserEditBody, service: ServiceDep, caller: CallerDep
) -> UserBody:
    """Change a user's settings; omitted fields keep their values.

    A new time zone applies to weeks summarized from now on. The response is the user, so this also
    requires the permission `read`.
    """
    caller.check_may("read")
    scope = caller.scope(user_id)
    if not body.model_fields_set:
        raise Invalid("Name at least one field to change", code="changes_missing")
    return UserBody.of(scope, await service.users.set_time_zone(scope, body.time_zone))


@router.get(
    "/{user_id}/export",
    responses={**RESPONSES, 200: _LINES_RESPONSE},
    response_class=StreamingResponse,
    **permission("admin"),
)
async def export_user(user_id: UserId, service: ServiceDep, caller: CallerDep) -> StreamingResponse:
    """Stream all rows of a user as JSON lines, including vectors.

    The first line names the format, the last one (`"kind": "end"`) counts the rows; without it the
    export is incomplete. An unknown user has no rows.
    """
    lines = service.archiving.export(caller.scope(user_id))
    first = await anext(lines)
    second = await anext(lines)  # queries the database, so that an outage is still a 503
    return StreamingResponse(_after(first + second, lines), media_type=LINES)


@router.post(
    "/{user_id}" + IMPORT_PATH_END,
    responses=RESPONSES,
    max_body_size=IMPORT_BYTES_MAX,
    openapi_extra={
        **permission("admin", remembered=False)["openapi_extra"],
        "requestBody": {
            "required": True,
            "content": {LINES: {"schema": {"type": "string"}}},
        },
    },
)
async def import_user(
    user_id: UserId, request: Request, service: ServiceDep, caller: CallerDep
) -> ImportedBody:
    """Import an export, for the same user or another one.

    Existing rows are left unchanged, so an interrupted import can simply be repeated.
    """
    scope = caller.scope(user_id)
    imported = await service.archiving.store(scope, json_lines(request))
    enqueued = await service.jobs.enqueue_waiting(
        project_id=scope.project_id, user_id=scope.user_id, limit=imported.read["blocks"]
    )
    return ImportedBody(
        read=dict(imported.read), stored=dict(imported.stored), enqueued=len(enqueued)
    )


@router.delete("/{user_id}", responses=RESPONSES, **permission("admin", remembered=False))
async def erase_user(
    user_id: UserId,
    service: ServiceDep,
    caller: CallerDep,
    idempotency_key: Annotated[
        Name | None,
        Header(description="Identifies this request: repeated, it returns the same receipt."),
    ] = None,
) -> ReceiptBody:
    """Erase a user: blocks, revisions, vectors, relations, summaries, jobs, usage, stored
    responses, cached entries, and the user's keys.

    Jobs running for the user meanwhile restore nothing. The receipt counts the deleted rows;
    `luma-memory verify-erasure` verifies it. Erasing an unknown user returns a receipt of zeros.
    """
    return ReceiptBody.of(await service.erasing.erase(caller.scope(user_id), key=idempotency_key))


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for lines in rest:
        yield lines
