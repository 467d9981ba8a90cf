"""End users' access tokens, against a real server that publishes its keys."""

# ruff: noqa: F811 - a fixture is imported, and an argument of the tests
from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from tests.support.token_issuer import (
    EC_KEY,
    ED_KEY,
    RSA_KEY,
    Issuer,
    _jwk,
    issuer,  # noqa: F401 - a fixture
    signed,
)

from luma_memory.domain.errors import LumaMemoryError
from luma_memory.providers.identity.open_id import OpenIdTokens
from luma_memory.providers.identity.supabase import supabase_issuer
from luma_memory.testing.moved_clock import MovedClock

OTHER_EC_KEY = ec.generate_private_key(ec.SECP256R1())
SHARED_SECRET = "a secret shared with everybody who reads the documentation"


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
async def tokens(issuer: Issuer, clock: MovedClock) -> Any:
    verifier = OpenIdTokens(supabase_issuer(issuer.url + "/"), clock=clock)
    yield verifier
    await verifier.close()


async def refusal(tokens: OpenIdTokens, token: str) -> str:
    with pytest.raises(LumaMemoryError) as refused:
        await tokens.verify(token)
    return refused.value.code


@pytest.mark.parametrize(
    ("key", "algorithm", "key_id"),
    [(EC_KEY, "ES256", "ec"), (RSA_KEY, "RS256", "rsa"), (ED_KEY, "EdDSA", "ed")],
)
async def test_a_good_token_names_its_user(
    tokens: OpenIdTokens, issuer: Issuer, key: Any, algorithm: str, key_id: str
) -> None:
    token = signed(issuer.claims(), key, algorithm, kid=key_id)
    assert (await tokens.verify(token)).subject == "0b7c6e1e-ada"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"exp": 1_000_000_000}, "token_expired"),
        ({"exp": None}, "credentials_invalid"),
        ({"iss": "https://elsewhere.example/auth/v1"}, "credentials_invalid"),
        ({"iss": None}, "credentials_invalid"),
        ({"aud": "anon"}, "credentials_invalid"),
        ({"aud": None}, "credentials_invalid"),
        ({"nbf": 9_999_999_999}, "credentials_invalid"),
        ({"sub": None}, "credentials_invalid"),
        ({"sub": " "}, "credentials_invalid"),
        ({"sub": "a\x00b"}, "credentials_invalid"),
        ({"sub": "x" * 257}, "credentials_invalid"),
        ({"sub": "\ud800"}, "credentials_invalid"),
        ({"sub": 7}, "credentials_invalid"),
    ],
)
async def test_a_claim_that_is_wrong_is_refused(
    tokens: OpenIdTokens, issuer: Issuer, changed: dict[str, Any], code: str
) -> None:
    # PyJWT would not encode a subject that is no text; a signer elsewhere may.
    claims = issuer.claims(**changed)
    token = jwt.PyJWS().encode(
        json.dumps(claims).encode(), EC_KEY, "ES256", headers={"kid": "ec", "typ": "JWT"}
    )
    assert await refusal(tokens, token) == code


async def test_only_the_issuers_own_signature_counts(tokens: OpenIdTokens, issuer: Issuer) -> None:
    claims = issuer.claims()
    public_pem = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head, payload, _ = signed(claims).split(".")
    forged = [
        signed(claims, OTHER_EC_KEY),
        jwt.encode(claims, "", "none", headers={"kid": "ec"}),
        jwt.encode(claims, SHARED_SECRET, "HS256", headers={"kid": "shared"}),
        jwt.encode(claims, SHARED_SECRET, "HS256", headers={"kid": "ec"}),
        # The public key used as if it were the shared secret of an HMAC.
        _hmac_with(public_pem, claims, key_id="rsa"),
        signed(claims, RSA_KEY, "RS256"),  # a good signature under the id of another key
        jwt.encode(claims, EC_KEY, "ES256"),  # no key id
        signed(claims, kid="unknown"),
        f"{head}.{payload}.",
        "a.b.c",
        "..",
    ]
    assert [await refusal(tokens, token) for token in forged] == ["credentials_invalid"] * len(
        forged
    )


def _hmac_with(secret: bytes, claims: dict[str, Any], *, key_id: str) -> str:
    def encoded(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = encoded(json.dumps({"alg": "HS256", "typ": "JWT", "kid": key_id}).encode())
    signing = head + b"." + encoded(json.dumps(claims).encode())
    return (signing + b"." + encoded(hmac.digest(secret, signing, hashlib.sha256))).decode()


async def test_a_new_key_is_fetched_when_a_token_names_it(
    tokens: OpenIdTokens, issuer: Issuer, clock: MovedClock
) -> None:
    await tokens.verify(signed(issuer.claims()))
    issuer.keys = [_jwk(ECAlgorithm.to_jwk(OTHER_EC_KEY.public_key()), "rotated")]
    clock.move(seconds=11)
    rotated = signed(issuer.claims(), OTHER_EC_KEY, kid="rotated")
    assert (await tokens.verify(rotated)).subject == "0b7c6e1e-ada"
    assert await refusal(tokens, signed(issuer.claims())) == "credentials_invalid"


async def test_made_up_key_ids_do_not_make_requests(tokens: OpenIdTokens, issuer: Issuer) -> None:
    for number in range(50):
        await refusal(tokens, signed(issuer.claims(), kid=f"made-up-{number}"))
    assert issuer.requests == 1


async def test_an_issuer_that_is_away_is_waited_out_with_the_keys_that_are_known(
    tokens: OpenIdTokens, issuer: Issuer, clock: MovedClock
) -> None:
    good = signed(issuer.claims())
    issuer.status = 500
    clock.move(seconds=1)
    assert await refusal(tokens, good) == "identity_unavailable"
    issuer.status = 200
    clock.move(seconds=11)
    await tokens.verify(good)
    issuer.status = 500
    clock.move(seconds=1_800)
    await tokens.verify(good)
    clock.move(seconds=3_601)
    assert await refusal(tokens, good) == "identity_unavailable"
