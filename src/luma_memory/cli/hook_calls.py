"""The two requests of a hook, with the standard library: the SDK takes longer to import."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

from luma_memory.domain.loopback import is_loopback

_BASE_PATH: Final = "/api/v1/memory"
_RESPONSE_BYTES_MAX: Final = 1 << 20


class RejectedError(Exception):
    """The service's response was no success. The text: its status and code."""


class HookCalls:
    """A service as one user. seconds_max: of one step on the network; a timer ends the whole."""

    def __init__(self, url: str, key: str | None, user_id: str, *, seconds_max: float) -> None:
        self._url = url.rstrip("/") + _BASE_PATH
        self._opener = _opener(url)
        self._key = key
        self._user_id = user_id
        self._seconds_max = seconds_max

    def context(self, query: str, *, token_budget: int, timeout_ms: int) -> str:
        """What is remembered about the query; empty if nothing is relevant."""
        body = {
            "user_id": self._user_id,
            "query": query,
            "token_budget": token_budget,
            "synthesize": False,
            "relevant_only": True,
            "timeout_ms": timeout_ms,
        }
        return str(self._post("/context", body)["text"])

    def store(self, blocks: Sequence[Mapping[str, Any]]) -> None:
        """Store blocks, which are given without their user."""
        whose = [{"user_id": self._user_id, **block} for block in blocks]
        self._post("/blocks/batch", {"blocks": whose})

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Raises OSError, http.client.HTTPException, ValueError, RejectedError."""
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        # Lone surrogates of a damaged transcript are no UTF-8.
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        request = Request(self._url + path, content, headers, method="POST")  # noqa: S310 - checked
        try:
            with self._opener.open(request, timeout=self._seconds_max) as response:
                return json.loads(response.read(_RESPONSE_BYTES_MAX))
        except HTTPError as error:
            with error:
                code = _code(error.read(_RESPONSE_BYTES_MAX))
            raise RejectedError(f"{error.code} {code}".strip()) from None


class _NoRedirects(HTTPRedirectHandler):
    """They would carry the key elsewhere."""

    def redirect_request(self, *_arguments: object, **_named: object) -> None:
        return None


def _opener(url: str) -> OpenerDirector:
    """Proxies are those of the environment, and none for this machine's own service."""
    if is_loopback(urlsplit(url).hostname):
        return build_opener(_NoRedirects(), ProxyHandler({}))
    return build_opener(_NoRedirects())


def _code(received: bytes) -> str:
    """The stable code of an error, and nothing else of a response that may come from anywhere."""
    try:
        code = str(json.loads(received)["code"])
    except (ValueError, KeyError, TypeError):
        return ""
    return code[:60] if code.isidentifier() else ""
