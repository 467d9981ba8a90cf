"""The HTTP service as the commands see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit
from uuid import UUID

import httpx2
from pydantic import BaseModel, SecretStr, ValidationError

from luma_memory.domain.block import BlockStatus
from luma_memory.domain.errors import (
    Invalid,
    LumaMemoryError,
    ProviderResponseInvalid,
    RejectedError,
    SetupError,
    UnavailableError,
)
from luma_memory.domain.job import OPEN, JobStatus, JobType
from luma_memory.domain.loopback import is_loopback
from luma_memory.domain.search import Ranking
from luma_memory.protocol.blocks import BatchAnswer, BlockPageBody
from luma_memory.protocol.context import CacheStatsBody, ContextAnswer
from luma_memory.protocol.health import HealthBody
from luma_memory.protocol.jobs import JobPageBody, JobStatsBody
from luma_memory.protocol.problem import Problem
from luma_memory.protocol.search import SearchAnswer

BASE_PATH = "/api/v1/memory"
BodyT = TypeVar("BodyT", bound=BaseModel)

_TIMEOUT_SECONDS = 60.0
_CONNECT_SECONDS = 5.0
# Every call here may be repeated safely: blocks carry a key of their own.
_ATTEMPTS = 5
_WAIT_SECONDS = 0.5
PAGE_JOBS_MAX = 200


class Stored(BaseModel):
    """What every answer to an accepted block has: enriched later, or already."""

    id: UUID
    status: BlockStatus


class ServiceClient:
    """Calls to one service. Raises LumaMemoryError, with the service's own words where it has any.

    Connections are refused or answers 503: tried again up to four times, but not by the first call
    of all, so that a service that is not there is told at once.
    """

    def __init__(self, base_url: str, *, api_key: SecretStr | None, connections: int = 8) -> None:
        self._url = base_url
        self._attempts = 1
        try:
            self._http = httpx2.AsyncClient(
                base_url=base_url + BASE_PATH,
                timeout=httpx2.Timeout(_TIMEOUT_SECONDS, connect=_CONNECT_SECONDS),
                limits=httpx2.Limits(max_connections=connections),
                headers=_credentials(api_key),
                # A proxy of the environment is no way to this machine.
                trust_env=not is_loopback(urlsplit(base_url).hostname),
            )
        except (httpx2.InvalidURL, ValueError) as error:
            raise SetupError(f"{base_url} is not a URL: {error}", code="wrong_url") from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def live(self) -> None:
        """Make sure that this service answers. Raises UnavailableError or SetupError."""
        await self._send("GET", "/health/live")

    async def health(self) -> HealthBody:
        return _parsed(HealthBody, await self._send("GET", "/health"))

    async def accept(self, block: Mapping[str, Any]) -> Stored:
        """Store one block."""
        return _parsed(Stored, await self._send("POST", "/blocks", block))

    async def accept_batch(self, blocks: Sequence[Mapping[str, Any]]) -> BatchAnswer:
        """Store several; each has its own outcome."""
        answer = await self._send("POST", "/blocks/batch", {"blocks": blocks})
        return _parsed(BatchAnswer, answer)

    async def page(self, user_id: str, *, status: str | None = None, limit: int) -> BlockPageBody:
        """The newest blocks of a user, in one status or in any."""
        parameters = _given(user_id=user_id, status=status, limit=limit)
        return _parsed(BlockPageBody, await self._send("GET", "/blocks", parameters=parameters))

    async def jobs(
        self,
        *,
        status: JobStatus | None = None,
        job_type: JobType | None = None,
        user_id: str | None = None,
        created_after: datetime | None = None,
        cursor: str | None = None,
        limit: int = PAGE_JOBS_MAX,
    ) -> JobPageBody:
        """A page of jobs, newest first."""
        parameters = _given(
            status=status,
            job_type=job_type,
            user_id=user_id,
            created_after=created_after and created_after.isoformat(),
            cursor=cursor,
            limit=limit,
        )
        return _parsed(JobPageBody, await self._send("GET", "/jobs", parameters=parameters))

    async def job_stats(self) -> JobStatsBody:
        return _parsed(JobStatsBody, await self._send("GET", "/jobs/stats"))

    async def cache_stats(self) -> CacheStatsBody:
        return _parsed(CacheStatsBody, await self._send("GET", "/cache/stats"))

    async def metrics(self) -> str:
        """In Prometheus' text format."""
        return (await self._send("GET", "/metrics")).decode()

    async def erase(self, user_id: str) -> None:
        """Remove everything of a user."""
        await self._send("DELETE", f"/users/{quote(user_id, safe='')}")

    async def has_open_jobs(self, user_id: str, job_type: JobType) -> bool:
        """Whether a job of this kind waits or runs for the user."""
        for status in OPEN:
            parameters = {"user_id": user_id, "job_type": job_type, "status": status, "limit": "1"}
            answer = await self._send("GET", "/jobs", parameters=parameters)
            if _parsed(JobPageBody, answer).jobs:
                return True
        return False

    async def search(
        self,
        user_id: str,
        query: str,
        *,
        limit: int,
        ranking: Ranking = "fused",
        explain: bool = False,
        more: Mapping[str, Any] | None = None,
    ) -> SearchAnswer:
        """The blocks that answer; `more`: further fields of `protocol.search.SearchBody`."""
        body = {
            **(more or {}),
            "user_id": user_id,
            "query": query,
            "limit": limit,
            "ranking": ranking,
            "explain": explain,
        }
        return _parsed(SearchAnswer, await self._send("POST", "/search", body))

    async def context(self, body: Mapping[str, Any]) -> ContextAnswer:
        """The context of a question; `body` as `protocol.context.ContextBody` has it."""
        return _parsed(ContextAnswer, await self._send("POST", "/context", body))

    async def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        parameters: Mapping[str, str] | None = None,
    ) -> bytes:
        # Escaped, so that a lone surrogate reaches the service and is refused there by its code.
        content = None if body is None else json.dumps(body).encode()
        for attempt in range(1, self._attempts + 1):
            try:
                answer = await self._once(method, path, content, parameters)
            except UnavailableError:
                if attempt == self._attempts:
                    raise
                await asyncio.sleep(_WAIT_SECONDS * 2 ** (attempt - 1))
            else:
                self._attempts = _ATTEMPTS
                return answer
        raise AssertionError("unreachable")

    async def _once(
        self, method: str, path: str, content: bytes | None, parameters: Mapping[str, str] | None
    ) -> bytes:
        headers = {"Content-Type": "application/json"} if content is not None else {}
        try:
            response = await self._http.request(
                method, path, content=content, params=parameters, headers=headers
            )
        except httpx2.ConnectError as error:
            raise UnavailableError(
                f"Nothing answers at {self._url}: start it with `luma-memory up`, or say where it"
                " is with --url",
                code="service_unreachable",
            ) from error
        except httpx2.TransportError as error:
            raise UnavailableError(
                f"The service at {self._url} broke off ({type(error).__name__})",
                code="service_unreachable",
            ) from error
        if response.is_success:
            return response.content
        raise _refusal(response, self._url)


def _given(**parameters: object) -> dict[str, str]:
    """Those that are set, as texts."""
    return {name: str(value) for name, value in parameters.items() if value is not None}


def _credentials(api_key: SecretStr | None) -> dict[str, str]:
    return {} if api_key is None else {"Authorization": f"Bearer {api_key.get_secret_value()}"}


def _refusal(response: httpx2.Response, url: str) -> LumaMemoryError:
    """The error a refusing answer stands for."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return SetupError(
            f"What answers at {url} is not Luma Memory (status {response.status_code})",
            code="not_this_service",
        )
    if problem.status >= 500:
        kind: type[LumaMemoryError] = UnavailableError if problem.status == 503 else RejectedError
    else:
        kind = Invalid
    return kind(problem.detail, code=problem.code)


def _parsed(model: type[BodyT], content: bytes) -> BodyT:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise ProviderResponseInvalid(
            "The service answers in a form this version does not know", code="unknown_answer"
        ) from error
