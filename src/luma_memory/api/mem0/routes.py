"""Serve mem0's routes, and their own OpenAPI document.

They are no part of the service's document: its SDKs are made from that, and mem0's interface is
neither ours to describe nor ours to change. The document here lists what is served, for the tests
that send every route what it must refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from fastapi.routing import APIRouter

from luma_memory.api.mem0 import MEM0_PATH, adding, changing, entities, queries, status
from luma_memory.api.mem0.not_offered import not_offered_routes
from luma_memory.api.openapi import SECURITY_SCHEMES
from luma_memory.protocol.problem import FieldProblem
from luma_memory.protocol.validation import JSON_VALUE_SCHEMA

DOCUMENT_PATH: Final = f"{MEM0_PATH}/openapi.json"
ROUTERS: Final[Sequence[APIRouter]] = (
    adding.router,
    queries.router,
    changing.router,
    entities.router,
    status.router,
)
# What waits for a provider while its client does; the others do if blocks are enriched inline.
SEARCH_PATHS: Final = frozenset(MEM0_PATH + path for path in ("/v3/memories/search/", "/search"))
ADD_PATHS: Final = frozenset(MEM0_PATH + path for path in ("/v3/memories/add/", "/memories"))
_DESCRIPTION: Final = """\
The routes that the clients of mem0 (`mem0ai`) call; see docs/from-mem0.md. Errors are JSON objects
with `detail`, a stable `code` and, for an invalid request, `errors`."""
_ERRORS: Final = {
    400: "The request is invalid; `errors` names the fields.",
    401: "The credentials are missing or unknown.",
    403: "These credentials do not permit the operation; see `code`.",
    404: "There is no such memory, event or route.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    429: "Too many requests; retry after Retry-After.",
    501: "This service does not offer the feature; `detail` names it.",
    503: "Temporarily unavailable; retry after Retry-After.",
}


def add_mem0(app: FastAPI) -> None:
    """Serve the routes below MEM0_PATH."""
    for router in ROUTERS:
        app.include_router(router, prefix=MEM0_PATH, include_in_schema=False)
    app.router.routes.extend(not_offered_routes())
    found: dict[str, Any] = {}

    async def document() -> Response:
        if not found:
            found.update(mem0_document())
        return JSONResponse(found)

    app.add_api_route(DOCUMENT_PATH, document, include_in_schema=False)


def mem0_document() -> dict[str, Any]:
    """The OpenAPI document of mem0's routes."""
    described = FastAPI()
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Mem0Error"}}}
    for router in ROUTERS:
        described.include_router(router, prefix=MEM0_PATH)
    document = get_openapi(
        title="mem0's interface of Luma Memory",
        version="1",
        description=_DESCRIPTION,
        routes=described.routes,
    )
    components = document["components"]
    components["securitySchemes"] = SECURITY_SCHEMES
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["schemas"] |= {
        "Mem0Error": _error_schema(),
        "FieldProblem": FieldProblem.model_json_schema(),
        "JsonValue": JSON_VALUE_SCHEMA,
    }
    for methods in document["paths"].values():
        for operation in methods.values():
            # What is invalid is 400 here.
            operation["responses"].pop("422", None)
            operation["responses"] |= {
                str(code): {"description": text, "content": error} for code, text in _ERRORS.items()
            }
    return document


def _error_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["detail", "code"],
        "properties": {
            "detail": {"type": "string"},
            "code": {"type": "string"},
            "errors": {"type": "array", "items": {"$ref": "#/components/schemas/FieldProblem"}},
            "request_id": {"type": "string"},
        },
    }
