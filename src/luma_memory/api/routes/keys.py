"""API keys: list, create and revoke."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query

from luma_memory.api.problems import RESPONSES, problem_document
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.ports.accounts import KeyFilter, KeyPlace
from luma_memory.protocol.keys import CurrentKeyBody, KeyBody, KeyPageBody, NewKeyBody
from luma_memory.protocol.validation import Name

BODY_BYTES_MAX = 10_000
PAGE_KEYS_MAX = 200

router = APIRouter(prefix="/keys", tags=["keys"], route_class=ProtectedRoute)
_ONE = {**RESPONSES, 404: problem_document("There is no such key of this project and user.")}
_CREATED = {**RESPONSES, 409: problem_document("The first key must be one of an operator.")}


@router.get("", responses=RESPONSES, **permission("admin"))
async def list_keys(
    service: ServiceDep,
    caller: CallerDep,
    user_id: Annotated[Name | None, Query(description="Keys of this user only.")] = None,
    include_revoked: bool = False,
    limit: Annotated[int, Query(ge=1, le=PAGE_KEYS_MAX)] = 50,
    cursor: Name | None = None,
) -> KeyPageBody:
    """Keys of the project, newest first; with a key for one user, those of this user."""
    which = KeyFilter(caller.project_id, caller.narrowed(user_id), include_revoked)
    owner = (which.project_id, which.user_id, "keys", str(include_revoked))
    after = None
    if cursor:
        created_at, prefix = service.cursors.values(cursor, owner=owner)
        after = KeyPlace(datetime.fromisoformat(str(created_at)), str(prefix))
    page = await service.api_keys.page(which, after=after, limit=limit)
    following = None
    if (place := page.next_place) is not None:
        values = (place.created_at.isoformat(), place.prefix)
        following = service.cursors.after_values(values, owner=owner)
    return KeyPageBody(
        keys=[KeyBody.of(key, caller=caller.name) for key in page.keys], next_cursor=following
    )


@router.get("/current", responses=RESPONSES, **permission("any"))
async def read_current_key(service: ServiceDep, caller: CallerDep) -> CurrentKeyBody:
    """What the credentials of this request permit: of a key, a token, or a service without keys."""
    return CurrentKeyBody.of(caller, await service.api_keys.of_caller(caller))


# The response carries the key, which is not stored for repeated requests.
@router.post(
    "",
    status_code=201,
    responses=_CREATED,
    max_body_size=BODY_BYTES_MAX,
    **permission("admin", remembered=False),
)
async def create_key(body: NewKeyBody, service: ServiceDep, caller: CallerDep) -> KeyBody:
    """Create a key of the caller's project. Its text, `key`, is in this response only.

    A key permits at most what the caller may, and one limited to a user creates keys of this user.
    Repeating the request creates another key.
    """
    key, text = await service.api_keys.create_for(
        caller,
        body.permissions,
        user_id=body.user_id,
        name=body.name,
        is_open=service.keys.required and await service.keys.is_open(),
    )
    service.keys.note_created()
    return KeyBody.of(key, caller=caller.name, text=text)


@router.delete("/{prefix}", responses=_ONE, **permission("admin"))
async def revoke_key(
    prefix: Annotated[Name, Path(description="The first part of the key.")],
    service: ServiceDep,
    caller: CallerDep,
) -> KeyBody:
    """Revoke a key permanently; every process rejects it within a minute."""
    return KeyBody.of(await service.api_keys.revoke_for(caller, prefix), caller=caller.name)
