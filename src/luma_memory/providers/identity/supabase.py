"""Access tokens of a Supabase project: signed with keys that it publishes as a JSON Web Key Set.

Only asymmetric signatures count. The older projects' shared secret (HS256) could be used to make
tokens here, and a public key taken for such a secret is a known way in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx2
import jwt

from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import ProviderUnavailable, Unauthenticated
from luma_memory.providers.http_client import provider_http_client

ALGORITHMS: Final[Sequence[str]] = ("ES256", "RS256", "EdDSA")
AUDIENCE: Final = "authenticated"
JWKS_PATH: Final = "/auth/v1/.well-known/jwks.json"
ISSUER_PATH: Final = "/auth/v1"
# Clocks of two machines.
LEEWAY_SECONDS: Final = 10
# Keys are looked at again after this long, or when a token names another one; not more often than
# every RETRY_SECONDS, whatever tokens name.
FRESH_SECONDS: Final = 600.0
RETRY_SECONDS: Final = 10.0
# While the issuer is away, the keys that were read last count on.
TRUSTED_SECONDS: Final = 3_600.0
_TIMEOUT_SECONDS: Final = 3.0
_JWKS_BYTES_MAX: Final = 256 * 1024
_SUBJECT_CHARACTERS_MAX: Final = 256


class SupabaseTokens:
    """`ports.accounts.TokenVerifier` of one project. Raises SetupError for an unusable address."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        base = url.rstrip("/")
        self._issuer = base + ISSUER_PATH
        self._jwks_url = base + JWKS_PATH
        self._clock = clock
        self._client = provider_http_client(
            base, timeout_seconds=_TIMEOUT_SECONDS, body_bytes_max=_JWKS_BYTES_MAX
        )
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._read_at = self._tried_at = float("-inf")
        self._refresh_lock = asyncio.Lock()

    async def subject(self, token: str) -> str:
        key = await self._key(_key_id(token))
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=AUDIENCE,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("This access token has expired", code="token_expired") from None
        except jwt.PyJWTError:
            raise _refused() from None
        return _checked_subject(claims)

    async def close(self) -> None:
        await self._client.aclose()

    async def _key(self, key_id: str) -> jwt.PyJWK:
        now = self._clock.monotonic()
        if key_id not in self._keys or now - self._read_at > FRESH_SECONDS:
            async with self._refresh_lock:
                if self._clock.monotonic() - self._tried_at > RETRY_SECONDS:
                    self._tried_at = self._clock.monotonic()
                    await self._read()
        if self._clock.monotonic() - self._read_at > TRUSTED_SECONDS:
            raise ProviderUnavailable(
                "The keys of the access token issuer are unavailable", code="identity_unavailable"
            )
        if key_id not in self._keys:
            raise _refused()
        return self._keys[key_id]

    async def _read(self) -> None:
        """Replace the keys by the issuer's; while it is unavailable, keep the current ones."""
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                response = await self._client.get(self._jwks_url)
                response.raise_for_status()
            listed = response.json()["keys"]
            self._keys = {entry["kid"]: key for entry in listed if (key := _usable(entry))}
        except (TimeoutError, httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError):
            return
        self._read_at = self._clock.monotonic()


def _usable(entry: Mapping[str, Any]) -> jwt.PyJWK | None:
    """A public key of an algorithm that counts; others in the set are ignored."""
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
