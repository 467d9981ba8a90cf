"""Writes with an Idempotency-Key: executed once; repeated requests get the stored response.

The work and its response share one transaction, so a crash leaves both or neither. Failures are
not stored: a repeated request runs again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import UUID

from fastapi import Response
from pydantic import TypeAdapter, ValidationError

from luma_memory.api.strict_json import StrictRequest
from luma_memory.domain.access import Caller
from luma_memory.domain.errors import Invalid, InvariantError
from luma_memory.domain.scope import Scope
from luma_memory.domain.stored_response import KeyedRequest, StoredResponse
from luma_memory.ports.idempotency import ResponseStore
from luma_memory.protocol.validation import Name

HEADER: Final = "Idempotency-Key"
# Response headers that are stored; the request id differs for each request.
_KEPT_HEADERS: Final = ("content-type", "etag", "location")
_NAME: Final[TypeAdapter[str]] = TypeAdapter(Name)


async def run_once(
    request: StrictRequest,
    caller: Caller,
    store: ResponseStore,
    *,
    operation: str,
    handle: Callable[[StrictRequest], Awaitable[Response]],
) -> Response:
    """The response of `handle`, or the stored response to the same request.

    Raises Invalid for another request with the same key, and the errors of `handle`.
    """
    key = request.headers[HEADER]  # a name, see `check_keys`
    body = await _body(request)
    if body is _UNREADABLE:
        return await handle(request)  # reports the error

    async def work() -> StoredResponse:
        response = await handle(request)
        if not isinstance(response.body, bytes):
            raise InvariantError("a streamed response cannot be stored")
        headers = {
            name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers
        }
        return StoredResponse(response.status_code, headers, response.body.decode())

    user_id = _user_id(request, body, caller)
    response = await store.once(
        KeyedRequest(
            scope=Scope(caller.project_id, user_id),
            key=key,
            operation=operation,
            request_hash=_hash(request, operation, body),
            block_id=_block_id(request),
        ),
        work,
    )
    return Response(response.body, response.status, dict(response.headers))


def check_keys(keys: Sequence[str]) -> None:
    """Raises Invalid for a key that is not a name, and for several different keys."""
    if len(set(keys)) > 1:
        raise Invalid(
            "The request carries different idempotency keys",
            code="idempotency_key_mismatch",
            field="Idempotency-Key",
        )
    for key in keys:
        _checked_key(key)


def _checked_key(key: str) -> None:
    try:
        _NAME.validate_python(key)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        raise Invalid(detail["msg"], code=detail["type"], field="Idempotency-Key") from None


_UNREADABLE: Final = object()


async def _body(request: StrictRequest) -> Any:
    if not await request.body():
        return None
    try:
        return await request.json()
    except json.JSONDecodeError:
        return _UNREADABLE


def _user_id(request: StrictRequest, body: Any, caller: Caller) -> str:
    """The user named in the request, or ""; the stored response is erased with the user."""
    named = [request.path_params.get("user_id"), request.query_params.get("user_id")]
    if isinstance(body, dict):
        named.append(body.get("user_id"))
    for user_id in (*named, caller.user_id):
        if isinstance(user_id, str):
            try:
                return caller.scope(_NAME.validate_python(user_id)).user_id
            except ValidationError:
                continue
    return ""


def _block_id(request: StrictRequest) -> UUID | None:
    try:
        return UUID(request.path_params["block_id"])
    except (KeyError, ValueError):
        return None


def _hash(request: StrictRequest, operation: str, body: Any) -> bytes:
    """Covers all parts of the request, independent of the JSON's whitespace and key order."""
    parts = [
        operation,
        sorted((name, str(value)) for name, value in request.path_params.items()),
        sorted(request.query_params.multi_items()),
        request.headers.get("if-match"),
        body,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
