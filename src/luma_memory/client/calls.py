"""Requests as values, which can be sent repeatedly."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from luma_memory.domain.errors import Invalid

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Value = str | int | bool | date | UUID | Sequence[str] | None
_JSON: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    path: below the base path, with its query, escaped. is_repeatable: whether it is safe to send
    again. timeout_seconds: of each wait for the response; None for the client's default.
    """

    method: Method
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    is_repeatable: bool = True
    timeout_seconds: float | None = None


def read(path: str, **query: Value) -> Call:
    """A request without side effects. Parameters that are None are omitted."""
    return Call("GET", _with_query(path, query))


def ask(path: str, body: Mapping[str, Any], *, timeout_seconds: float | None = None) -> Call:
    """A query with a body and without side effects."""
    return Call("POST", path, _JSON, encoded(body), timeout_seconds=timeout_seconds)


def write(
    method: Method,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    idempotency_key: str | None,
    revision: int | None = None,
    etag: str | None = None,
    timeout_seconds: float | None = None,
    **query: Value,
) -> Call:
    """A change with an idempotency key, so that it can be repeated if its response is lost.

    idempotency_key: None generates one. revision: the revision that the block must still have.
    etag: the etag that the item must still have, or `*`.
    """
    headers = {} if body is None else dict(_JSON)
    if revision is not None:
        headers["If-Match"] = f'"{revision}"'
    if etag is not None:
        headers["If-Match"] = etag if etag == "*" else f'"{etag}"'
    if not (body and body.get("idempotency_key")):  # has the same effect
        headers["Idempotency-Key"] = _sendable(idempotency_key or new_key())
    return Call(
        method,
        _with_query(path, query),
        headers,
        None if body is None else encoded(body),
        timeout_seconds=timeout_seconds,
    )


def new_key() -> str:
    """A unique idempotency key."""
    return uuid4().hex


def without_none(**parts: object) -> dict[str, Any]:
    """A body of the parts that are not None; the service has defaults for the others."""
    return {name: value for name, value in parts.items() if value is not None}


def plain(body: BaseModel | Mapping[str, Any]) -> Mapping[str, Any]:
    """A body as a mapping; of a model only the fields that were set."""
    if isinstance(body, BaseModel):
        return body.model_dump(mode="json", exclude_unset=True)
    return body


def encoded(body: Mapping[str, Any]) -> bytes:
    """The body as escaped JSON, so that any text reaches the service and is validated there."""
    return json.dumps(body, default=to_jsonable_python).encode()


def segment(name: Value) -> str:
    """A path segment. Dots are escaped too: `..` would be resolved as a parent path."""
    return _escaped(str(name)).replace(".", "%2E")


def _with_query(path: str, query: Mapping[str, Value]) -> str:
    given = [(name, _text(one)) for name, value in query.items() for one in _each(value)]
    if not given:
        return path
    try:
        return f"{path}?{urlencode(given, quote_via=quote)}"
    except UnicodeEncodeError:
        raise _surrogate() from None


def _each(value: Value) -> Sequence[str | int | bool | date | UUID]:
    """The values of a parameter that are sent: several of a list, none of None."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str | int | date | UUID) else value


def _text(value: str | int | bool | date | UUID) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            aware = value if value.tzinfo else value.replace(tzinfo=UTC)
            return aware.isoformat()
        case date():
            return value.isoformat()
        case _:
            return str(value)


def _escaped(text: str) -> str:
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise _surrogate() from None


def _surrogate() -> Invalid:
    return Invalid("Text must not contain a lone surrogate", code="text_surrogate")


def _sendable(key: str) -> str:
    if not (key.isascii() and key.isprintable() and key.strip() == key != ""):
        raise Invalid(
            "An idempotency key must be printable ASCII without surrounding spaces",
            code="idempotency_key_invalid",
            field="idempotency_key",
        )
    return key
