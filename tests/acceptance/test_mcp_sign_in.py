"""Agent hosts sign in with access tokens: metadata, challenges, and whose memory it is."""

from __future__ import annotations

import httpx2
from tests.support.agents import call, over_http, refused
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
        async with over_http(url, key=token) as ada, over_http(url, key=read_token) as reader:
            (added,) = (await call(ada, "add_memory", content="Ada signed in."))["memories"]
            assert await refused(ada, "get_memory", id=added["id"], user_id="bob") == (
                "user_not_allowed"
            )
            assert (await call(reader, "get_memory", id=added["id"]))["text"] == "Ada signed in."
            assert await refused(reader, "delete_memory", id=added["id"]) == "permission_missing"
        expired = signed(issuer.claims(sub="ada", exp=1_000_000_000))
        async with httpx2.AsyncClient(trust_env=False) as http:
            headers = {"Authorization": f"Bearer {expired}"}
            refusal = await http.post(f"{url}/mcp", json={}, headers=headers)
            assert (refusal.status_code, refusal.json()["error"]["data"]["code"]) == (
                401,
                "token_expired",
            )
            assert 'Bearer error="invalid_token", ' in refusal.headers["www-authenticate"]


async def test_without_an_issuer_there_is_no_metadata(servers: Servers) -> None:
    async with (
        running_keyed_service(servers, embedding_enabled=False) as service,
        httpx2.AsyncClient(trust_env=False) as http,
    ):
        place = "/.well-known/oauth-protected-resource/mcp"
        response = await http.get(service.stack.base_url + place)
        assert (response.status_code, response.json()["code"]) == (404, "route_not_found")
