"""Writes with an Idempotency-Key: done once, answered as often as they are sent.

The answer and the work are one transaction, so that a crash leaves both or neither. What fails is
not remembered: sent again, it is tried again.
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
# What an answer is made of beside its body; the request's id is each request's own.
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
    """The answer of `handle`, or the one that it gave to the same request before.

    Raises Invalid for another request with that key, and what `handle` raises.
    """
    key = request.headers[HEADER]  # a name, see `check_keys`
    body = await _body(request)
    if body is _UNREADABLE:
        return await handle(request)  # which says what is wrong with it

    async def work() -> StoredResponse:
        response = await handle(request)
        if not isinstance(response.body, bytes):
            raise InvariantError("a streamed answer cannot be remembered")
        headers = {
            name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers
        }
        return StoredResponse(response.status_code, headers, response.body.decode())

    user_id = _user_id(request, body, caller)
    answer = await store.once(
        KeyedRequest(
            scope=Scope(caller.project_id, user_id),
            key=key,
            operation=operation,
            request_hash=_hash(request, operation, body),
            block_id=_block_id(request),
        ),
        work,
    )
    return Response(answer.body, answer.status, dict(answer.headers))


def check_keys(keys: Sequence[str]) -> None:
    """Raises Invalid for a key that is no name, and for several: a client counts on its key."""
    if len(set(keys)) > 1:
        raise Invalid(
            "The request shows different keys",
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
    """Whom the request is about, as far as it says; the answer is erased with them."""
    said = [request.path_params.get("user_id"), request.query_params.get("user_id")]
    if isinstance(body, dict):
        said.append(body.get("user_id"))
    for user_id in (*said, caller.user_id):
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
    """Of everything the request says; not of how its JSON is spaced or ordered."""
    said = [
        operation,
        sorted((name, str(value)) for name, value in request.path_params.items()),
        sorted(request.query_params.multi_items()),
        request.headers.get("if-match"),
        body,
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).digest()
