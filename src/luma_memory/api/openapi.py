"""The OpenAPI document: what the framework cannot know is added to what it derives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, APIRouter

from luma_memory.api.routing import PERMISSION, is_remembered
from luma_memory.protocol.problem import Problem
from luma_memory.protocol.validation import (
    JSON_VALUE_SCHEMA,
    NAME_CHARACTERS_MAX,
    NOT_BLANK_PATTERN,
)

SECURITY_SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`luma-memory keys create`), or an end user's access token.",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
}
_DESCRIPTION: Final = """\
A memory block is a stored record: one thing worth remembering, with its owner, time and history.

Every operation but health names the permission it needs (`x-permission`). The project comes from
the key; `user_id` is your own id of your end user. Without keys, on loopback, everybody may do
everything.

Errors are RFC 9457 problem documents with a stable `code`; `errors` says which parts of the request
are to blame, `request_id` joins the answer to the service's log. 429 and 503 say in Retry-After
when to try again. Times are ISO 8601, in UTC unless they say otherwise. Lists come in pages: pass
`next_cursor` as `cursor`.

Limits: a name or id has at most 256 characters, a block 100,000, a question 10,000, a request's
head 32,768 bytes; a body's limit stands at its operation (`x-body-bytes-max`)."""
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Names this request: repeated within 7 days, it is answered as before and not"
    " done again. Another request with the same key is refused (422 idempotency_key_reused).",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": NAME_CHARACTERS_MAX,
        "pattern": NOT_BLANK_PATTERN,
    },
}


def add_openapi(app: FastAPI, routers: Sequence[APIRouter], *, prefix: str) -> None:
    """Let the app tell the whole document; it is made once, when somebody asks."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(app, _body_limits(routers, prefix))
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _completed(app: FastAPI, limits: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=_DESCRIPTION,
        routes=app.routes,
    )
    components = document["components"]
    components["securitySchemes"] = SECURITY_SCHEMES
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"] |= {
        **problem.pop("$defs"),
        "Problem": problem,
        "JsonValue": JSON_VALUE_SCHEMA,
    }
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    for path, method, operation in _operations(document):
        for parameter in operation.get("parameters", []):
            _forget_null(parameter)
        if PERMISSION not in operation:
            operation["security"] = []
            # It has no input that could be wrong.
            operation["responses"].pop("422", None)
            continue
        if limit := limits.get((path, method)):
            operation["x-body-bytes-max"] = limit
        if is_remembered({method.upper()}, operation):
            operation.setdefault("parameters", []).append(_KEY)
        operation.pop("x-not-remembered", None)
        _name_headers(operation["responses"])
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _forget_null(parameter: dict[str, Any]) -> None:
    """A parameter is left out; there is no way to send null."""
    schema = parameter["schema"]
    choices = [choice for choice in schema.pop("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        schema |= choices[0]
    elif choices:
        schema["anyOf"] = choices


def _body_limits(routers: Sequence[APIRouter], prefix: str) -> Mapping[tuple[str, str], int]:
    """Bytes by path and method."""
    return {
        (prefix + route.path, method.lower()): route.max_body_size
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute) and route.max_body_size is not None
        for method in route.methods or ()
    }


def _name_headers(responses: dict[str, Any]) -> None:
    retry = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    for status in ("429", "503"):
        if status in responses:
            responses[status] = {**responses[status], "headers": retry}
