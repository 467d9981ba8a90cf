"""Maps errors to problem documents; HTTP statuses are assigned only here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from luma_memory.api.mem0 import forms, is_mem0
from luma_memory.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    LumaMemoryError,
    NotFound,
    NotOffered,
    PreconditionFailed,
    QuotaExceeded,
    RejectedError,
    RequestError,
    SetupError,
    Unauthenticated,
    UnavailableError,
)
from luma_memory.mcp import MCP_PATH
from luma_memory.mcp.http_errors import JSON_MEDIA_TYPE, error_message
from luma_memory.protocol.problem import MEDIA_TYPE, FieldProblem, Problem
from luma_memory.telemetry.logs import log_failure

_STATUS: Sequence[tuple[type[LumaMemoryError], int]] = (
    (Unauthenticated, 401),
    (NotFound, 404),
    (Conflict, 409),
    (PreconditionFailed, 412),
    (Forbidden, 403),
    (NotOffered, 501),
    (QuotaExceeded, 429),
    (RequestError, 422),
    (UnavailableError, 503),
    (SetupError, 503),
    (RejectedError, 502),
)
_HTTP_CODES: Mapping[int, str] = {
    400: "malformed_request",
    404: "route_not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    503: "overloaded",
}
RETRY_AFTER_SECONDS = 2


def problem_document(description: str) -> dict[str, Any]:
    """An error response in the OpenAPI document."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


# The documented error responses of every route.
RESPONSES: dict[int | str, dict[str, Any]] = {
    400: problem_document("The body is not JSON."),
    401: problem_document("The credentials are missing or unknown."),
    403: problem_document("These credentials do not permit the operation; see `code`."),
    408: problem_document("The body did not arrive in time."),
    413: problem_document("The body is too large."),
    415: problem_document("The body is not application/json."),
    422: problem_document("The request is invalid; `errors` names the fields."),
    429: problem_document("Too many requests; retry after Retry-After."),
    503: problem_document("Temporarily unavailable; retry after Retry-After."),
}


def add_problem_handlers(app: FastAPI) -> None:
    """Respond to every error of the app with a problem document."""
    app.add_exception_handler(LumaMemoryError, _on_our_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)


class ProblemResponse(Response):
    """A problem document, or an error in the form of the interface that the request belongs to."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None) -> None:
        self._problem = problem
        super().__init__(
            problem.model_dump_json(exclude_none=True),
            status_code=problem.status,
            media_type=MEDIA_TYPE,
            headers=dict(headers or {}),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_mem0(scope["path"]):
            self.status_code = forms.mem0_status(self.status_code)
            self._take_form(forms.mem0_error(self._problem), forms.MEDIA_TYPE)
        elif scope["path"] == MCP_PATH:
            self._take_form(error_message(self._problem), JSON_MEDIA_TYPE)
        await super().__call__(scope, receive, send)

    def _take_form(self, body: bytes, media_type: str) -> None:
        self.body = body
        self.headers["Content-Type"] = media_type
        self.headers["Content-Length"] = str(len(body))


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[FieldProblem] = (),
    request_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A response with a problem document."""
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        errors=list(errors),
        request_id=request_id,
    )
    return ProblemResponse(problem, headers)


async def _on_our_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LumaMemoryError)
    return error_response(request.scope, error)


def error_response(scope: Scope, error: LumaMemoryError) -> Response:
    """The response for an error; also used by middleware, outside the routes."""
    request_id = request_id_of(scope)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if status == 500:
        log_failure("A request failed with an internal error", error)
        return internal_problem(request_id)
    field = error.field if isinstance(error, Invalid) else None
    return problem_response(
        status,
        error.code,
        str(error),
        errors=[FieldProblem(field=field, code=error.code, detail=str(error))] if field else (),
        request_id=request_id,
        headers=_headers(status, error),
    )


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems, request_id = error.errors(), request_id_of(request.scope)
    if any(problem["type"] == "json_invalid" for problem in problems):
        detail = f"The body is not valid JSON: {problems[0]['ctx']['error']}"
        return problem_response(400, "malformed_json", detail, request_id=request_id)
    if _is_other_media_type(request, problems):
        detail = "Send the body as application/json"
        return problem_response(415, "unsupported_media_type", detail, request_id=request_id)
    fields = [field_problem(problem) for problem in problems]
    detail = "; ".join(f"{entry.field}: {entry.detail}" for entry in fields[:5])
    return problem_response(
        422, "invalid_request", detail, errors=fields[:100], request_id=request_id
    )


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem_response(
        error.status_code,
        _HTTP_CODES.get(error.status_code, "http_error"),
        str(error.detail),
        request_id=request_id_of(request.scope),
        headers=error.headers,
    )


def internal_problem(request_id: str | None) -> Response:
    """An internal error, without its details."""
    return problem_response(500, "internal", "An internal error occurred", request_id=request_id)


def too_large_problem(request_id: str | None) -> Response:
    """A body over the route's limit."""
    return problem_response(
        413, "body_too_large", "The body is too large for this route", request_id=request_id
    )


def field_problem(problem: Mapping[str, Any]) -> FieldProblem:
    """One pydantic validation error, without the rejected value."""
    place, *rest = [str(part) for part in problem["loc"]] or [""]
    # FastAPI puts the location first; a search body has a field named `query` itself.
    path = rest if place in ("body", "query", "path") else [place, *rest]
    return FieldProblem(
        field=_printable(".".join(path)) or "body",
        code=problem["type"],
        detail=problem["msg"],
    )


def _printable(path: str) -> str:
    # The path may contain a key chosen by the client.
    return path.encode("utf-8", "replace").decode()[:200]


def _is_other_media_type(request: Request, problems: Sequence[Mapping[str, Any]]) -> bool:
    is_json = "json" in request.headers.get("content-type", "")
    return not is_json and any(tuple(problem["loc"]) == ("body",) for problem in problems)


def _headers(status: int, error: LumaMemoryError) -> Mapping[str, str]:
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if status not in (429, 503):
        return {}
    assert isinstance(error, UnavailableError | QuotaExceeded | SetupError)
    seconds = None if isinstance(error, SetupError) else error.retry_after_seconds
    return {"Retry-After": str(math.ceil(seconds or RETRY_AFTER_SECONDS))}


def request_id_of(scope: Scope) -> str | None:
    """The request's id."""
    request_id: str | None = scope.get("state", {}).get("request_id")
    return request_id
