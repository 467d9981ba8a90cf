"""Access tokens of any OpenID provider, found by its published configuration."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.open_id_provider import Provider, provider  # noqa: F401 - a fixture
from tests.support.token_issuer import Issuer as KeyServer
from tests.support.token_issuer import issuer as key_server  # noqa: F401 - a fixture
from tests.support.token_issuer import signed

from luma_memory.domain.errors import LumaMemoryError, SetupError
from luma_memory.providers.identity.open_id import (
    Issuer,
    OpenIdTokens,
    TokensOfIssuers,
    configured_issuer,
)
from luma_memory.testing.moved_clock import MovedClock

AUDIENCE = "https://memory.example/mcp"


@pytest.fixture
async def tokens(provider: Provider) -> Any:  # noqa: F811
    verifier = OpenIdTokens(Issuer(provider.issuer, AUDIENCE), clock=MovedClock())
    yield verifier
    await verifier.close()


def token_of(served: Provider, keys: KeyServer, **changed: Any) -> str:
    return signed(keys.claims(iss=served.issuer, aud=AUDIENCE, **changed))


@pytest.mark.parametrize(
    ("claims", "permissions"),
    [
        ({}, {"ingest", "read"}),
        ({"scope": "openid profile"}, {"ingest", "read"}),
        ({"scope": "openid memory:read"}, {"read"}),
        ({"scope": "memory:write memory:read"}, {"ingest", "read"}),
        ({"scope": "memory:unknown"}, set()),
        ({"scp": ["memory:write"]}, {"ingest"}),
        ({"scope": 7}, {"ingest", "read"}),
    ],
)
async def test_scopes_become_permissions(
    tokens: OpenIdTokens,
    provider: Provider,  # noqa: F811
    key_server: KeyServer,  # noqa: F811
    claims: dict[str, Any],
    permissions: set[str],
) -> None:
    verified = await tokens.verify(token_of(provider, key_server, **claims))
    assert verified.subject == "0b7c6e1e-ada"
    assert verified.permissions == permissions


@pytest.mark.parametrize(
    "configuration",
    [
        {"issuer": "https://elsewhere.example"},
        {"jwks_uri": None},
        {"jwks_uri": "file:///etc/passwd"},
        {"issuer": None},
    ],
)
async def test_a_configuration_of_another_issuer_is_not_used(
    tokens: OpenIdTokens,
    provider: Provider,  # noqa: F811
    key_server: KeyServer,  # noqa: F811
    configuration: dict[str, Any],
) -> None:
    provider.configuration |= configuration
    with pytest.raises(LumaMemoryError) as refused:
        await tokens.verify(token_of(provider, key_server))
    assert refused.value.code == "identity_unavailable"


async def test_a_token_for_another_service_is_refused(
    tokens: OpenIdTokens,
    provider: Provider,  # noqa: F811
    key_server: KeyServer,  # noqa: F811
) -> None:
    token = signed(key_server.claims(iss=provider.issuer, aud="https://other.example"))
    with pytest.raises(LumaMemoryError) as refused:
        await tokens.verify(token)
    assert refused.value.code == "credentials_invalid"


async def test_the_issuer_of_a_token_chooses_its_verifier(
    provider: Provider,  # noqa: F811
    key_server: KeyServer,  # noqa: F811
) -> None:
    other = Issuer("https://other.example", AUDIENCE)
    both = TokensOfIssuers(
        [
            OpenIdTokens(Issuer(provider.issuer, AUDIENCE), clock=MovedClock()),
            OpenIdTokens(other, clock=MovedClock()),
        ]
    )
    assert (await both.verify(token_of(provider, key_server))).subject == "0b7c6e1e-ada"
    for token in (signed(key_server.claims(iss="https://unknown.example")), "a.b.c"):
        with pytest.raises(LumaMemoryError) as refused:
            await both.verify(token)
        assert refused.value.code == "credentials_invalid"
    await both.close()


def test_issuer_and_audience_belong_together() -> None:
    assert configured_issuer(None, None) is None
    assert configured_issuer("https://id.example", "memory") == Issuer(
        "https://id.example", "memory"
    )
    for issuer, audience in (("https://id.example", None), (None, "memory")):
        with pytest.raises(SetupError, match="MEMORY_OIDC_AUDIENCE"):
            configured_issuer(issuer, audience)
