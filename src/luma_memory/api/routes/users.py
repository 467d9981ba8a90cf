"""Users: lists, settings, export, import and erasure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from luma_memory.api.imports import ImportFormat, Upload, UploadOptions, import_lines
from luma_memory.api.lines import json_lines
from luma_memory.api.problems import RESPONSES
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.bootstrap.service import Service
from luma_memory.domain.access import Caller
from luma_memory.domain.errors import Invalid
from luma_memory.domain.user import UserSort
from luma_memory.domain.weeks import is_time_zone
from luma_memory.importers.assignment import Assignment, parse_speakers
from luma_memory.importers.mapped import parse_mapping
from luma_memory.importers.records import DateOrder, ImportOptions
from luma_memory.ports.user_lists import SessionPlace, UserPlace
from luma_memory.protocol.users import (
    ImportedBody,
    ReceiptBody,
    SessionBody,
    SessionPageBody,
    TermProfileBody,
    UserBody,
    UserEditBody,
    UserEntryBody,
    UserPageBody,
)
from luma_memory.protocol.validation import Cursor, Instant, Name

LINES = "application/x-ndjson"
# A million blocks with their vectors.
IMPORT_BYTES_MAX = 16 * 1024**3
IMPORT_PATH_END = "/import"
SETTINGS_BYTES_MAX = 10_000
MAPPING_CHARACTERS_MAX = 4_000
SPEAKERS_MAX = 100
PAGE_USERS_MAX = 200
TERMS_MAX = 200

router = APIRouter(prefix="/users", tags=["users"], route_class=ProtectedRoute)
UserId = Annotated[Name, Path(description="Your own id of the end user.")]
_LINES_RESPONSE = {
    "description": "One row per line; the last line confirms that the export is complete.",
    "content": {LINES: {"schema": {"type": "string"}}},
}


_IMPORTED = {
    "description": "What was imported; with `format` a report, one item a line.",
    "content": {LINES: {"schema": {"type": "string"}}},
}


async def _import_options(
    user_id: UserId,
    time_zone: Annotated[
        Name | None, Query(description="Of times without a zone; UTC by default.")
    ] = None,
    date_order: Annotated[
        DateOrder | None, Query(description="Of numeric dates that can be read in two ways.")
    ] = None,
    starts_at: Annotated[
        Instant | None, Query(description="When a recording began, for transcripts.")
    ] = None,
    mapping: Annotated[
        str | None,
        Query(
            max_length=MAPPING_CHARACTERS_MAX,
            description="Of any JSON or CSV: the fields of a mapping file, as a JSON object.",
        ),
    ] = None,
    map_: Annotated[
        list[Name] | None,
        Query(
            alias="map",
            max_length=SPEAKERS_MAX,
            description="`Ann Example=ann`: what this speaker wrote goes to that user.",
        ),
    ] = None,
    dry_run: Annotated[bool, Query(description="Count and show samples; store nothing.")] = False,
) -> UploadOptions:
    if time_zone is not None and not is_time_zone(time_zone):
        raise Invalid(
            "This time zone is not in the IANA database; an example is Europe/Lisbon",
            code="time_zone_unknown",
            field="time_zone",
        )
    parsed = parse_mapping(mapping) if mapping is not None else None
    options = ImportOptions(date_order, ZoneInfo(time_zone or "UTC"), starts_at, parsed)
    return UploadOptions(options, Assignment(user_id, parse_speakers(map_ or ())), dry_run)


ImportOptionsDep = Annotated[UploadOptions, Depends(_import_options)]


@router.get("", responses=RESPONSES, **permission("read"))
async def list_users(
    service: ServiceDep,
    caller: CallerDep,
    prefix: Annotated[Name | None, Query(description="Of the user's id, case-sensitive.")] = None,
    sort: Annotated[
        UserSort, Query(description="The last active first, or in the order of their ids.")
    ] = "last_activity",
    limit: Annotated[int, Query(ge=1, le=PAGE_USERS_MAX)] = 50,
    cursor: Cursor | None = None,
) -> UserPageBody:
    """Users of the project with their numbers of blocks; with a key for one user, this user."""
    owner = (caller.project_id, caller.user_id, "users", sort, prefix)
    after = None
    if cursor:
        hour, active, user_id = service.cursors.values(cursor, owner=owner)
        after = UserPlace(_instant(hour), _instant(active), str(user_id))
    page = await service.users.page(
        caller.project_id,
        user_id=caller.user_id,
        prefix=prefix,
        sort=sort,
        after=after,
        limit=limit,
    )
    following = None
    if (place := page.next_place) is not None:
        values = (_text(place.active_hour), _text(place.last_activity_at), place.user_id)
        following = service.cursors.after_values(values, owner=owner)
    return UserPageBody(users=[UserEntryBody.of(one) for one in page.users], next_cursor=following)


@router.get("/{user_id}/sessions", responses=RESPONSES, **permission("read"))
async def list_sessions(
    user_id: UserId,
    service: ServiceDep,
    caller: CallerDep,
    prefix: Annotated[
        Name | None, Query(description="Of the session's id, case-sensitive.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_USERS_MAX)] = 50,
    cursor: Cursor | None = None,
) -> SessionPageBody:
    """Sessions of a user's blocks, the one with the newest block first."""
    scope = caller.scope(user_id)
    owner = (scope.project_id, scope.user_id, "sessions", prefix)
    after = None
    if cursor:
        created_at, session_id = service.cursors.values(cursor, owner=owner)
        after = SessionPlace(datetime.fromisoformat(str(created_at)), str(session_id))
    page = await service.users.sessions(scope, prefix=prefix, after=after, limit=limit)
    following = None
    if (place := page.next_place) is not None:
        values = (place.last_created_at.isoformat(), place.session_id)
        following = service.cursors.after_values(values, owner=owner)
    return SessionPageBody(
        sessions=[SessionBody.of(one) for one in page.sessions], next_cursor=following
    )


@router.get("/{user_id}/terms", responses=RESPONSES, **permission("read"))
async def list_terms(
    user_id: UserId,
    service: ServiceDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=TERMS_MAX)] = 50,
) -> TermProfileBody:
    """The most frequent tags of a user's newest 10,000 blocks."""
    return TermProfileBody.of(await service.users.terms(caller.scope(user_id), limit=limit))


def _instant(value: object) -> datetime | None:
    return None if value is None else datetime.fromisoformat(str(value))


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


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
    response_model=ImportedBody,
    responses={**RESPONSES, 200: _IMPORTED},
    max_body_size=IMPORT_BYTES_MAX,
    openapi_extra={
        **permission("admin", remembered=False)["openapi_extra"],
        "requestBody": {
            "required": True,
            "content": {
                LINES: {"schema": {"type": "string"}},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        },
    },
)
async def import_user(
    user_id: UserId,
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    options: ImportOptionsDep,
    format_: Annotated[
        ImportFormat | None,
        Query(alias="format", description="Of another system's export; omit it for our own."),
    ] = None,
    file_name: Annotated[Name | None, Query(description="Of the uploaded file.")] = None,
) -> Response:
    """Import our own export, for the same user or another one; or with `format` that of another
    system: a file or a zip archive, as `luma-memory import` reads them.

    Existing rows are left unchanged, so an interrupted import can simply be repeated. With `format`
    the response is a report as JSON lines, written while blocks are stored: `skipped` and `refused`
    items, `progress`, and at last `end` or `error`. With `dry_run` it counts and stores nothing.
    """
    scope = caller.scope(user_id)
    if format_ is not None:
        return await _imported(request, service, caller, format_, file_name, options)
    imported = await service.archiving.store(scope, json_lines(request))
    enqueued = await service.jobs.enqueue_waiting(
        project_id=scope.project_id, user_id=scope.user_id, limit=imported.read["blocks"]
    )
    body = ImportedBody(
        read=dict(imported.read), stored=dict(imported.stored), enqueued=len(enqueued)
    )
    return JSONResponse(body.model_dump())


async def _imported(
    request: Request,
    service: Service,
    caller: Caller,
    format_: ImportFormat,
    file_name: str | None,
    options: UploadOptions,
) -> Response:
    upload = await asyncio.to_thread(Upload, file_name)
    try:
        await upload.fill(request)
        found = upload.read(format_, options)
        # What is no export at all is an error, and no report.
        await asyncio.to_thread(next, found, None)
    except BaseException:
        upload.close()
        raise
    lines = import_lines(service, caller, upload, found, is_dry_run=options.is_dry_run)
    return StreamingResponse(lines, media_type=LINES)


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
