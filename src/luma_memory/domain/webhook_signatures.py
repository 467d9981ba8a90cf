"""Signatures of webhooks, by the Standard Webhooks specification 1.0.0.

The secret is `whsec_` and the base64 of 24 to 64 random bytes; signed is `id.timestamp.body` with
HMAC-SHA256. The header may hold several signatures, separated by spaces, while a secret is rotated.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from hashlib import sha256

from luma_memory.domain.errors import Invalid

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
PREFIX = "whsec_"
_VERSION = "v1"
TOLERANCE_SECONDS = 300.0


def secret_text(key: bytes) -> str:
    """The form in which a secret is handed out."""
    return PREFIX + base64.b64encode(key).decode()


def signed_headers(
    keys: Sequence[bytes], *, message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """The three headers of a request, with a signature for each valid key.

    timestamp: Unix time in seconds.
    """
    signatures = " ".join(_signature(key, message_id, timestamp, body) for key in keys)
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(timestamp),
        SIGNATURE_HEADER: signatures,
    }


def check_signature(
    body: bytes,
    headers: Mapping[str, str],
    secret: str,
    *,
    now: float,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> None:
    """Raises Invalid (code webhook_signature_invalid) unless one of the signatures is the secret's
    and the request is at most `tolerance_seconds` old or early.

    headers: of the request, in any case. now: Unix time. The comparison takes constant time.
    """
    found = {name.lower(): value for name, value in headers.items()}
    missing = [
        name for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER) if name not in found
    ]
    if missing:
        raise _refused(f"the header {missing[0]} is missing")
    try:
        timestamp = int(found[TIMESTAMP_HEADER])
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (ValueError, binascii.Error):
        raise _refused("the timestamp or the secret is malformed") from None
    if abs(now - timestamp) > tolerance_seconds:
        raise _refused("the request is too old, or comes from the future")
    expected = _signature(key, found[ID_HEADER], timestamp, body).encode()
    given = [value.encode() for value in found[SIGNATURE_HEADER].split(" ")]
    if not any(hmac.compare_digest(expected, signature) for signature in given):
        raise _refused("no signature is the secret's")


def _signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(key, signed, sha256).digest()
    return f"{_VERSION},{base64.b64encode(digest).decode()}"


def _refused(why: str) -> Invalid:
    return Invalid(f"The webhook's signature is not valid: {why}", code="webhook_signature_invalid")
