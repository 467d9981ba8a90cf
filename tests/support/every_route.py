"""A client that knows which operations of the OpenAPI documents it has called."""

from __future__ import annotations

import re
from typing import Any

import httpx2
from tests.support.service import BASE_PATH

# An id that is not in the document's template: a path with fewer variables is the better match.
_VARIABLE = re.compile(r"\{\w+\}")


class RouteClient:
    """Sends requests that must succeed. called: the operations, as the documents name them."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        """client: its base URL is that of the server."""
        self._client = client
        self._templates: list[tuple[str, str]] = []
        self.called: set[tuple[str, str]] = set()

    async def read_documents(self, *paths: str) -> None:
        for path in paths:
            document = (await self.request("GET", path)).json()
            self._templates += [
                (method.upper(), template)
                for template, methods in document["paths"].items()
                for method in methods
            ]

    async def json(self, method: str, path: str, **options: Any) -> Any:
        """Of a path below the API's base path, or below /mem0; None without a body."""
        full = path if path.startswith("/mem0/") else BASE_PATH + path
        response = await self.request(method, full, **options)
        if not response.headers.get("content-type", "").startswith("application/json"):
            return response.text or None
        return response.json()

    async def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        response = await self._client.request(method, path, **options)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        fitting = [
            template
            for known, template in self._templates
            if known == method and re.fullmatch(_VARIABLE.sub("[^/]+", template), path)
        ]
        if fitting:
            self.called.add((method, min(fitting, key=lambda one: one.count("{"))))
        return response

    @property
    def missing(self) -> set[tuple[str, str]]:
        """Operations of the documents that were not called."""
        return set(self._templates) - self.called
