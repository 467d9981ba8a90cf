"""Access tokens of any OpenID provider: JSON Web Tokens signed with keys that it publishes.

Only asymmetric signatures are accepted. With a shared secret (HS256) tokens could be forged here,
and accepting a public key as such a secret is a known attack.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import jwt

from luma_memory.domain.access import (
    END_USER_PERMISSIONS,
    OAUTH_SCOPES,
    AccessToken,
    Permission,
)
from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import ProviderUnavailable, SetupError, Unauthenticated
from luma_memory.providers.http_client import provider_http_client

ALGORITHMS: Final[Sequence[str]] = ("ES256", "RS256", "EdDSA")
# Difference allowed between the clocks of two machines.
LEEWAY_SECONDS: Final = 10
# Keys are fetched again after this time, or when a token names an unknown one; but not more often
# than every RETRY_SECONDS, whatever key ids tokens name.
FRESH_SECONDS: Final = 600.0
RETRY_SECONDS: Final = 10.0
# While the issuer is unavailable, the last keys remain valid for this time.
TRUSTED_SECONDS: Final = 3_600.0
DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
_SCOPE_PREFIX: Final = "memory:"
_TIMEOUT_SECONDS: Final = 3.0
_DOCUMENT_BYTES_MAX: Final = 256 * 1024
_SUBJECT_CHARACTERS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Issuer:
    """A provider, and the audience of tokens for this service.

    issuer: exactly as in the claim `iss`. jwks_url: the location of its keys; None: from its OpenID
    configuration.
    """

    issuer: str
    audience: str
    jwks_url: str | None = None


class OpenIdTokens:
    """`ports.accounts.TokenVerifier` of one issuer. Raises SetupError for an unusable address."""

    def __init__(self, issuer: Issuer, *, clock: Clock) -> None:
        self.issuer = issuer.issuer
        self._audience = issuer.audience
        self._jwks_url = issuer.jwks_url
        self._clock = clock
        self._client = provider_http_client(
            issuer.issuer, timeout_seconds=_TIMEOUT_SECONDS, body_bytes_max=_DOCUMENT_BYTES_MAX
        )
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._read_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def verify(self, token: str) -> AccessToken:
        key = await self._key(_key_id(token))
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self._audience,
                issuer=self.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("This access token has expired", code="token_expired") from None
        except jwt.PyJWTError:
            raise _refused() from None
        return AccessToken(_checked_subject(claims), _permissions(claims))

    async def close(self) -> None:
        await self._client.aclose()

    async def _key(self, key_id: str) -> jwt.PyJWK:
        now = self._clock.monotonic()
        if key_id not in self._keys or now - self._read_at > FRESH_SECONDS:
            async with self._fetching:
                if self._clock.monotonic() - self._tried_at > RETRY_SECONDS:
                    self._tried_at = self._clock.monotonic()
                    await self._read()
        if self._clock.monotonic() - self._read_at > TRUSTED_SECONDS:
            raise ProviderUnavailable(
                "The keys of the access tokens' issuer are unavailable",
                code="identity_unavailable",
            )
        if key_id not in self._keys:
            raise _refused()
        return self._keys[key_id]

    async def _read(self) -> None:
        """Fetch the issuer's keys; if that fails, the previous ones stay."""
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                url = self._jwks_url or await self._discovered()
                listed = (await self._document(url))["keys"]
            self._keys = {entry["kid"]: key for entry in listed if (key := _usable(entry))}
        except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL, *_UNREADABLE):
            return
        self._read_at = self._clock.monotonic()

    async def _discovered(self) -> str:
        """The location of the keys from the issuer's configuration. Raises ValueError."""
        found = await self._document(self.issuer.rstrip("/") + DISCOVERY_PATH)
        url = found["jwks_uri"]
        # The document of another issuer, or keys that anyone on the network could replace.
        is_secure = isinstance(url, str) and (
            url.startswith("https://") or self.issuer.startswith("http://")
        )
        if found["issuer"] != self.issuer or not is_secure:
            raise ValueError("not the configuration of this issuer")
        return str(url)

    async def _document(self, url: str) -> Mapping[str, Any]:
        response = await self._client.get(url)
        response.raise_for_status()
        document: Mapping[str, Any] = response.json()
        return document


_UNREADABLE: Final = (ValueError, KeyError, TypeError, AttributeError)


class TokensOfIssuers:
    """`ports.accounts.TokenVerifier` of several issuers; the claim `iss` chooses."""

    def __init__(self, verifiers: Sequence[OpenIdTokens]) -> None:
        self._by_issuer = {verifier.issuer: verifier for verifier in verifiers}

    async def verify(self, token: str) -> AccessToken:
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except jwt.PyJWTError:
            raise _refused() from None
        issuer = claims.get("iss")
        verifier = self._by_issuer.get(issuer) if isinstance(issuer, str) else None
        if verifier is None:
            raise _refused()
        return await verifier.verify(token)

    async def close(self) -> None:
        for verifier in self._by_issuer.values():
            await verifier.close()


def configured_issuer(issuer: str | None, audience: str | None) -> Issuer | None:
    """The issuer of the settings. Raises SetupError if only one of both is set."""
    if issuer is None and audience is None:
        return None
    if issuer is None or audience is None:
        raise SetupError(
            "MEMORY_OIDC_ISSUER and MEMORY_OIDC_AUDIENCE belong together: set both or neither",
            code="wrong_setting",
        )
    return Issuer(issuer, audience)


def _permissions(claims: Mapping[str, Any]) -> frozenset[Permission]:
    """The token's permissions: all of an end user's if it names none of this service's scopes."""
    given = claims.get("scope", claims.get("scp", ""))
    names = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
    own = [name for name in names if isinstance(name, str) and name.startswith(_SCOPE_PREFIX)]
    if not own:
        return END_USER_PERMISSIONS
    return frozenset(OAUTH_SCOPES[name] for name in own if name in OAUTH_SCOPES)


def _usable(entry: Mapping[str, Any]) -> jwt.PyJWK | None:
    """A public signing key of an accepted algorithm."""
    if not isinstance(entry.get("kid"), str) or entry.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK.from_dict(dict(entry))
    except jwt.PyJWTError:
        return None
    return key if key.algorithm_name in ALGORITHMS else None


def _key_id(token: str) -> str:
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise _refused() from None
    if header.get("alg") not in ALGORITHMS or not isinstance(header.get("kid"), str):
        raise _refused()
    return str(header["kid"])


def _checked_subject(claims: Mapping[str, Any]) -> str:
    subject = claims["sub"]
    is_name = isinstance(subject, str) and subject.strip() and "\x00" not in subject
    if not is_name or len(subject) > _SUBJECT_CHARACTERS_MAX or not _is_unicode(subject):
        raise _refused()
    return str(subject)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refused() -> Unauthenticated:
    return Unauthenticated("This access token is not accepted here")
