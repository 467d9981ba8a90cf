"""The OpenAPI document: what the framework cannot know is added to what it derives."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, APIRouter
from pydantic import TypeAdapter

from luma_memory.api.routing import PERMISSION, is_remembered
from luma_memory.protocol.items import ItemOperationBody
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

Every operation except health states the permission that it requires (`x-permission`). The API key
determines the project; `user_id` is your own id of your end user. Without keys, on loopback, every
client has all permissions.

Errors are RFC 9457 problem documents with a stable `code`. `errors` lists the invalid parts of the
request, and `request_id` identifies the request in the service's log. 429 and 503 carry
Retry-After. Times are ISO 8601, in UTC unless they state an offset. Lists are paginated: pass
`next_cursor` as `cursor`.

Limits: 256 characters for a name or id, 100,000 for a block, 10,000 for a query, 32,768 bytes for
the head of a request. The limit for a body is listed with its operation (`x-body-bytes-max`)."""
# Rendered without null values, so their nullable fields may be missing.
NULLS_OMITTED: Final = frozenset({"Problem", "AcceptedBody", "BatchItem", "BatchItemError"})
_REFERENCE: Final = re.compile(r'"#/components/schemas/(\w+)"')
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Identifies this request: repeated within 7 days, it returns the first response"
    " and is not executed again. Another request with the same key returns 422"
    " idempotency_key_reused.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": NAME_CHARACTERS_MAX,
        "pattern": NOT_BLANK_PATTERN,
    },
}


def add_openapi(app: FastAPI, routers: Sequence[APIRouter], *, prefix: str) -> None:
    """Build the document once, on the first request for it."""

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
        # Validated one by one, so that the framework does not find them.
        **TypeAdapter(ItemOperationBody).json_schema(ref_template="#/components/schemas/{model}")[
            "$defs"
        ],
        "JsonValue": JSON_VALUE_SCHEMA,
    }
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    _require_sent_fields(document)
    for path, method, operation in _operations(document):
        for parameter in operation.get("parameters", []):
            _forget_null(parameter)
        _describe_success(operation, components["schemas"])
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


def _require_sent_fields(document: dict[str, Any]) -> None:
    """A response contains every field of its schema, those with a default too.

    The framework marks only fields without a default as required, which is right for requests.
    """
    schemas = document["components"]["schemas"]
    sent: set[str] = set()
    names = {
        name
        for _, _, operation in _operations(document)
        for name in _referenced(operation["responses"])
    } | {"Problem"}
    while names:
        sent |= names
        names = {other for name in names for other in _referenced(schemas[name])} - sent
    for name in sent:
        fields = {
            field: schema
            for field, schema in schemas[name].get("properties", {}).items()
            if name not in NULLS_OMITTED or {"type": "null"} not in schema.get("anyOf", [])
        }
        if fields:
            schemas[name]["required"] = list(fields)


def _referenced(part: Any) -> set[str]:
    """Names of the schemas that a part of the document refers to directly."""
    return set(_REFERENCE.findall(json.dumps(part)))


def _describe_success(operation: dict[str, Any], schemas: Mapping[str, Any]) -> None:
    """Replace the framework's description by the first sentence on the response's schema."""
    for status, response in operation["responses"].items():
        if response["description"] != "Successful Response":
            continue
        text = ""
        for content in response.get("content", {}).values():
            name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            text = schemas.get(name, {}).get("description", "").partition("\n\n")[0]
        response["description"] = text or HTTPStatus(int(status)).phrase


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
