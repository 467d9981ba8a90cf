"""An OpenID provider that publishes its configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.json_server import JsonServer
from tests.support.token_issuer import Issuer as KeyServer
from tests.support.token_issuer import issuer as key_server  # noqa: F401 - a fixture


class Provider:
    """Publishes an OpenID configuration; its keys are at another address."""

    def __init__(self, keys: KeyServer) -> None:
        self._server = JsonServer(self._respond)
        self.issuer = f"{self._server.url}/realm"
        self.configuration: dict[str, Any] = {
            "issuer": self.issuer,
            "jwks_uri": f"{keys.url}/auth/v1/.well-known/jwks.json",
        }

    def _respond(self, path: str) -> tuple[int, Any]:
        known = path == "/realm/.well-known/openid-configuration"
        return (200, self.configuration) if known else (404, {})

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def provider(key_server: KeyServer) -> Iterator[Provider]:  # noqa: F811
    provider = Provider(key_server)
    yield provider
    provider.close()
