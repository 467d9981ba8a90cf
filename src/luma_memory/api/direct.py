"""Shortcuts for routes where the framework's work costs more than the route's own.

A route's shortcut gets each request first. It responds to one of the usual form, and returns None
for any other: an uncommon header, a parameter it does not know, a value that is not valid. The
framework then reads the request and reports errors as it does without a shortcut.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from json import JSONDecodeError
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qsl

from fastapi import Response
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from luma_memory.api.strict_json import INLINE_BYTES_MAX, StrictRequest
from luma_memory.bootstrap.service import Service
from luma_memory.domain.access import Caller

Shortcut: TypeAlias = Callable[
    [StrictRequest, Caller, Service], Coroutine[Any, Any, Response | None]
]
EndpointT = TypeVar("EndpointT", bound=Callable[..., Any])
BodyT = TypeVar("BodyT", bound=BaseModel)
_ATTRIBUTE: Final = "shortcut"


def shortcut(take: Shortcut) -> Callable[[EndpointT], EndpointT]:
    """Declare the shortcut of an endpoint, below the decorator of its route."""

    def declared(endpoint: EndpointT) -> EndpointT:
        setattr(endpoint, _ATTRIBUTE, take)
        return endpoint

    return declared


def shortcut_of(endpoint: Callable[..., Any]) -> Shortcut | None:
    return getattr(endpoint, _ATTRIBUTE, None)


async def json_body(request: StrictRequest, model: type[BodyT]) -> BodyT | None:
    """The body, if it is short JSON and valid."""
    headers = request.headers
    length = headers.get("content-length", "")
    if headers.get("content-type") != "application/json" or not length.isdecimal():
        return None
    if int(length) > INLINE_BYTES_MAX:  # below every route's limit
        return None
    try:
        return model.model_validate(await request.json())
    except (ValidationError, JSONDecodeError, ClientDisconnect):
        return None


def query_values(request: StrictRequest, model: type[BodyT], lists: str) -> BodyT | None:
    """The query's values by name, if they are valid. lists: the parameter that has several."""
    found: dict[str, Any] = {lists: []}
    query = request.scope["query_string"].decode("latin-1")
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == lists:
            found[lists].append(value)
        else:
            found[name] = value
    try:
        return model.model_validate(found)
    except ValidationError:
        return None
