"""Hosts sign in with any OpenID provider, named by two settings."""

from __future__ import annotations

import time
from typing import Any

import httpx2
from tests.support.agents import MODERN, plain_request
from tests.support.keyed_service import running_keyed_service
from tests.support.open_id_provider import Provider, provider  # noqa: F401 - a fixture
from tests.support.servers import Servers
from tests.support.token_issuer import RSA_KEY, signed
from tests.support.token_issuer import Issuer as KeyServer
from tests.support.token_issuer import issuer as key_server  # noqa: F401 - a fixture

AUDIENCE = "https://memory.example.com/mcp"
# Far beyond the difference that is allowed between two clocks.
HOUR = 3_600


async def test_tokens_are_checked_and_the_metadata_names_the_provider(
    servers: Servers,
    provider: Provider,  # noqa: F811
    key_server: KeyServer,  # noqa: F811
) -> None:
    def token(**changed: Any) -> str:
        claims = {"iss": provider.issuer, "aud": AUDIENCE, "sub": "ada"} | changed
        return signed(key_server.claims(**claims))

    now = int(time.time())
    async with (
        running_keyed_service(
            servers,
            first_key=False,
            oidc_issuer=provider.issuer,
            oidc_audience=AUDIENCE,
            public_url="https://memory.example.com",
            embedding_enabled=False,
        ) as api,
        httpx2.AsyncClient(base_url=api.stack.base_url, trust_env=False, timeout=30) as http,
    ):
        for place in ("", "/mcp"):
            response = await http.get(f"/.well-known/oauth-protected-resource{place}")
            document = response.json()
            assert document["resource"] == AUDIENCE
            assert document["authorization_servers"] == [provider.issuer]
            assert document["scopes_supported"] == ["memory:read", "memory:write"]
        for accepted in (token(), token(aud=["other", AUDIENCE]), token(scope="memory:read")):
            assert (await search(http, accepted)).status_code == 200
        for refused in (
            token(aud="https://other.example"),
            token(aud=None),
            token(iss=provider.issuer + "/"),
            token(exp=now - HOUR),
            token(exp=None),
            token(nbf=now + HOUR),
            token(sub=None),
            signed(key_server.claims(iss=provider.issuer, aud=AUDIENCE), RSA_KEY, "RS256"),
            "a.b.c",
        ):
            response = await search(http, refused)
            assert response.status_code == 401
            challenge = response.headers["www-authenticate"]
            assert challenge.startswith('Bearer error="invalid_token", ')
            address = "https://memory.example.com/.well-known/oauth-protected-resource/mcp"
            assert f'resource_metadata="{address}"' in challenge


async def search(http: httpx2.AsyncClient, token: str) -> httpx2.Response:
    params = {"name": "search_memories", "arguments": {"query": "x"}}
    body, headers = plain_request("tools/call", params, MODERN)
    headers["Authorization"] = f"Bearer {token}"
    return await http.post("/mcp", json=body, headers=headers)
