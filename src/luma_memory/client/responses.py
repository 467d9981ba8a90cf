"""The service's responses: a typed result, or an error."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from luma_memory.concurrency.retry_after import DEFAULT_SECONDS, stated_seconds
from luma_memory.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    InvariantError,
    LumaMemoryError,
    NotFound,
    PreconditionFailed,
    ProviderPaused,
    ProviderRejected,
    ProviderResponseInvalid,
    ProviderTimeout,
    ProviderUnavailable,
    QuotaExceeded,
    RateLimited,
    RejectedError,
    SearchTimeout,
    SetupError,
    StoreContended,
    StoreUnavailable,
    Unauthenticated,
    UnavailableError,
)
from luma_memory.protocol.problem import Problem

BodyT = TypeVar("BodyT", bound=BaseModel)

_BY_STATUS: Final[Mapping[int, type[LumaMemoryError]]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    408: UnavailableError,
    409: Conflict,
    412: PreconditionFailed,
    500: InvariantError,
    502: RejectedError,
    503: UnavailableError,
}
# More precise than the status, where the code is the error class's own.
_BY_CODE: Final[Mapping[str, type[LumaMemoryError]]] = {
    kind.code: kind
    for kind in (
        ProviderRejected,
        ProviderResponseInvalid,
        ProviderTimeout,
        ProviderUnavailable,
        SearchTimeout,
        StoreContended,
        StoreUnavailable,
    )
}
_RETRY_LATER: Final[Mapping[str, type[RateLimited | ProviderPaused]]] = {
    RateLimited.code: RateLimited,
    ProviderPaused.code: ProviderPaused,
}
# Statuses of a gateway in front of an unavailable service.
_GATEWAY: Final = frozenset({502, 503, 504})


class ProblemResponse(Exception):  # noqa: N818 - a response, and the cause of an error
    """The service's problem document: the `__cause__` of the error raised for it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def parsed(model: type[BodyT], content: bytes) -> BodyT:
    """The typed result. Raises ProviderResponseInvalid (code unknown_answer)."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise ProviderResponseInvalid(
            "The service's response has a form unknown to this version", code="unknown_answer"
        ) from error


def refusal(
    status: int, content: bytes, headers: Mapping[str, str], *, address: str
) -> LumaMemoryError:
    """The error for a response other than 2xx. headers: lower-case names."""
    try:
        problem = Problem.model_validate_json(content)
    except ValidationError:
        return _not_ours(status, headers, address)
    error = _error(problem, stated_seconds(headers))
    error.request_id = problem.request_id
    error.__cause__ = ProblemResponse(problem)
    return error


def _error(problem: Problem, wait_seconds: float | None) -> LumaMemoryError:
    detail, code = problem.detail, problem.code
    if problem.status == HTTPStatus.TOO_MANY_REQUESTS:
        return QuotaExceeded(detail, code=code, retry_after_seconds=wait_seconds or DEFAULT_SECONDS)
    if (retry_later := _RETRY_LATER.get(code)) is not None:
        return retry_later(detail, retry_after_seconds=wait_seconds or DEFAULT_SECONDS)
    kind = _BY_CODE.get(code) or _BY_STATUS.get(problem.status, Invalid)
    if issubclass(kind, Invalid):
        field = problem.errors[0].field if problem.errors else None
        return kind(detail, code=code, field=field)
    error = kind(detail, code=code)
    if isinstance(error, UnavailableError):
        error.retry_after_seconds = wait_seconds
    return error


def _not_ours(status: int, headers: Mapping[str, str], address: str) -> LumaMemoryError:
    """The response came from a gateway for an unavailable service, or from another server."""
    wait_seconds = stated_seconds(headers)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return QuotaExceeded(
            f"A gateway in front of {address} accepts no more requests now",
            code="gateway_limit",
            retry_after_seconds=wait_seconds or DEFAULT_SECONDS,
        )
    if status in _GATEWAY:
        error = UnavailableError(
            f"A gateway in front of {address} cannot reach the service (status {status})",
            code="gateway_unavailable",
        )
        error.retry_after_seconds = wait_seconds
        return error
    return SetupError(
        f"The server at {address} is not Luma Memory (status {status})", code="not_this_service"
    )
