"""An issuer of end users' access tokens, as a hosted project is one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from tests.support.json_server import JsonServer

EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()


class Issuer:
    """Serves a JSON Web Key Set, as a hosted project does."""

    def __init__(self) -> None:
        self.keys: list[Mapping[str, Any]] = [
            _jwk(ECAlgorithm.to_jwk(EC_KEY.public_key()), "ec"),
            _jwk(RSAAlgorithm.to_jwk(RSA_KEY.public_key()), "rsa"),
            _jwk(OKPAlgorithm.to_jwk(ED_KEY.public_key()), "ed"),
            {"kty": "oct", "kid": "shared", "alg": "HS256", "k": "c2VjcmV0"},
            {"kty": "unknown", "kid": "odd"},
        ]
        self.status = 200
        self.requests = 0
        self._server = JsonServer(self._respond)

    def _respond(self, path: str) -> tuple[int, Any]:
        self.requests += 1
        known = path == "/auth/v1/.well-known/jwks.json"
        return self.status if known else 404, {"keys": self.keys}

    @property
    def url(self) -> str:
        return self._server.url

    def close(self) -> None:
        self._server.close()

    def claims(self, **changed: Any) -> dict[str, Any]:
        claims = {
            "iss": f"{self.url}/auth/v1",
            "aud": "authenticated",
            "sub": "0b7c6e1e-ada",
            "exp": int(time.time()) + 600,
            "role": "authenticated",
        } | changed
        return {name: value for name, value in claims.items() if value is not None}


def _jwk(public: str | dict[str, Any], key_id: str) -> Mapping[str, Any]:
    entry: dict[str, Any] = json.loads(public) if isinstance(public, str) else public
    return {**entry, "kid": key_id, "use": "sig"}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.close()


def signed(claims: dict[str, Any], key: Any = EC_KEY, algorithm: str = "ES256", **head: Any) -> str:
    return jwt.encode(claims, key, algorithm, headers={"kid": "ec"} | head)
