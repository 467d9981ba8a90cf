"""Access tokens of a Supabase project: one case of an OpenID provider."""

from __future__ import annotations

from typing import Final

from luma_memory.providers.identity.open_id import Issuer

AUDIENCE: Final = "authenticated"
JWKS_PATH: Final = "/auth/v1/.well-known/jwks.json"
ISSUER_PATH: Final = "/auth/v1"


def supabase_issuer(url: str) -> Issuer:
    """The issuer of the project with this address. Its keys need no discovery."""
    base = url.rstrip("/")
    return Issuer(base + ISSUER_PATH, AUDIENCE, jwks_url=base + JWKS_PATH)
