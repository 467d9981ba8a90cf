"""Agent hosts sign in with access tokens: metadata, challenges, and whose memory it is."""

from __future__ import annotations

from typing import Any

import httpx2
from tests.support.agents import VERSIONS, call, over_http, plain_request, refused
from tests.support.keyed_service import running_keyed_service
from tests.support.servers import Servers
from tests.support.token_issuer import Issuer, issuer, signed  # noqa: F401 - a fixture


async def test_a_host_finds_its_issuer_and_a_token_decides_whose_memory_it_is(
    servers: Servers,
    issuer: Issuer,  # noqa: F811
) -> None:
    async with running_keyed_service(
        servers, first_key=False, supabase_url=issuer.url, embedding_enabled=False
    ) as api:
        url = api.stack.base_url
        async with httpx2.AsyncClient(trust_env=False) as http:
            refusal = await http.post(f"{url}/mcp", json={})
            assert refusal.status_code == 401
            challenge = refusal.headers["www-authenticate"]
            assert "error=" not in challenge  # no token is no error
            path = "/.well-known/oauth-protected-resource"
            assert f'resource_metadata="{url}{path}/mcp"' in challenge
            assert 'scope="memory:read memory:write"' in challenge
            for place in (path, f"{path}/mcp"):
                document = (await http.get(url + place)).json()
                assert document["resource"] == f"{url}/mcp"
                assert document["authorization_servers"] == [f"{issuer.url}/auth/v1"]
        token = signed(issuer.claims(sub="ada"))
        read_token = signed(issuer.claims(sub="ada", scope="memory:read"))
        write_token = signed(issuer.claims(sub="ada", scope="memory:write"))
        async with over_http(url, key=token) as ada, over_http(url, key=read_token) as reader:
            (added,) = (await call(ada, "add_memory", content="Ada signed in."))["memories"]
            assert await refused(ada, "get_memory", id=added["id"], user_id="bob") == (
                "user_not_allowed"
            )
            assert (await call(reader, "get_memory", id=added["id"]))["text"] == "Ada signed in."
        for token, needed, requests in (
            (read_token, "memory:read memory:write", writes(added["id"])),
            (write_token, "memory:read memory:write", reads(added["id"])),
        ):
            for method, params in requests:
                await check_challenge(url, token, method, params, needed)
        # A token that may do it gets no challenge, and neither does an error of another kind.
        assert await status(url, write_token, *writes(added["id"])[1]) == (200, None)
        assert await status(url, read_token, *reads("0" * 32)[0]) == (200, None)
        expired = signed(issuer.claims(sub="ada", exp=1_000_000_000))
        async with httpx2.AsyncClient(trust_env=False) as http:
            headers = {"Authorization": f"Bearer {expired}"}
            refusal = await http.post(f"{url}/mcp", json={}, headers=headers)
            assert (refusal.status_code, refusal.json()["error"]["data"]["code"]) == (
                401,
                "token_expired",
            )
            assert 'Bearer error="invalid_token", ' in refusal.headers["www-authenticate"]


def writes(block_id: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        _tool("delete_memory", id=block_id, user_id="ada"),
        _tool("add_memory", content="Ada may write."),
        _tool("update_memory", id=block_id, content="Ada may edit."),
    ]


def reads(block_id: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        _tool("get_memory", id=block_id),
        _tool("search_memories", query="Ada"),
        _tool("get_context", query="Ada"),
        ("resources/read", {"uri": f"memory://blocks/{block_id}"}),
        ("prompts/get", {"name": "recall", "arguments": {"topic": "Ada"}}),
    ]


def _tool(name: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return "tools/call", {"name": name, "arguments": arguments}


async def check_challenge(
    url: str, token: str, method: str, params: dict[str, Any], needed: str
) -> None:
    """A host gets to know which scopes to request."""
    async with httpx2.AsyncClient(trust_env=False) as http:
        for version in VERSIONS:
            body, headers = plain_request(method, params, version)
            headers["Authorization"] = f"Bearer {token}"
            response = await http.post(f"{url}/mcp", json=body, headers=headers)
            assert response.status_code == 403, (params, response.text)
            assert response.json()["error"]["data"]["code"] == "permission_missing"
            challenge = response.headers["www-authenticate"]
            assert challenge.startswith('Bearer error="insufficient_scope", ')
            assert f'scope="{needed}"' in challenge
            assert f'resource_metadata="{url}/.well-known/' in challenge


async def status(
    url: str, token: str, method: str, params: dict[str, Any]
) -> tuple[int, str | None]:
    body, headers = plain_request(method, params, VERSIONS[0])
    headers["Authorization"] = f"Bearer {token}"
    async with httpx2.AsyncClient(trust_env=False) as http:
        response = await http.post(f"{url}/mcp", json=body, headers=headers)
    return response.status_code, response.headers.get("www-authenticate")


async def test_a_key_without_a_permission_gets_no_challenge(servers: Servers) -> None:
    """A host could get a token, but not a key with more permissions, so the model gets a result."""
    async with running_keyed_service(servers, embedding_enabled=False) as service:
        key = await service.key("read", user_id="ada")
        url = service.stack.base_url
        assert await status(url, key, *writes("0" * 32)[1]) == (200, None)
        async with over_http(url, key=key) as client:
            assert await refused(client, "add_memory", content="x") == "permission_missing"


async def test_without_an_issuer_there_is_no_metadata(servers: Servers) -> None:
    async with (
        running_keyed_service(servers, embedding_enabled=False) as service,
        httpx2.AsyncClient(trust_env=False) as http,
    ):
        place = "/.well-known/oauth-protected-resource/mcp"
        response = await http.get(service.stack.base_url + place)
        assert (response.status_code, response.json()["code"]) == (404, "route_not_found")
