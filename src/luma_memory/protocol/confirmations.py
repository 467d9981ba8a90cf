"""Confirmations of a bulk deletion: signed, bound to what was counted, and valid for some minutes.

A dry run issues one, and the deletion must carry it. It names the newest block that was counted, so
that nothing stored later is deleted, and the count and fingerprint of what was counted, so that a
deletion that would delete something else is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from luma_memory.domain.block_selection import SelectedBlocks
from luma_memory.domain.errors import Conflict, Invalid

VALID_FOR: Final = timedelta(minutes=10)
# Expiry in Unix seconds, count, newest id, fingerprint.
_FORM: Final = struct.Struct(">QQ16sQ")
_SIGNATURE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A confirmation as it is sent, and until when it is valid."""

    text: str
    expires_at: datetime


class Confirmations:
    """secret: shared by all processes of an installation."""

    def __init__(self, secret: bytes) -> None:
        # Cursors are signed with the same secret; neither can be used as the other.
        self._secret = hmac.digest(secret, b"confirmations", hashlib.sha256)

    def issue(
        self, selected: SelectedBlocks, *, of: Mapping[str, Any], now: datetime
    ) -> Confirmation:
        """of: what is to be deleted, as JSON, with its project; at least one block."""
        assert selected.through is not None, "nothing is selected"
        expires_at = (now + VALID_FOR).replace(microsecond=0)
        payload = _FORM.pack(
            int(expires_at.timestamp()),
            selected.count,
            selected.through.bytes,
            selected.fingerprint,
        )
        text = base64.urlsafe_b64encode(payload + self._sign(payload, of)).decode().rstrip("=")
        return Confirmation(text, expires_at)

    def selected(self, text: str, *, of: Mapping[str, Any], now: datetime) -> SelectedBlocks:
        """What was counted. Raises Invalid (confirmation_invalid), also for another selection,
        and Conflict (confirmation_expired)."""
        try:
            signed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            raise _invalid() from None
        payload, signature = signed[:-_SIGNATURE_BYTES], signed[-_SIGNATURE_BYTES:]
        if len(payload) != _FORM.size or not hmac.compare_digest(
            signature, self._sign(payload, of)
        ):
            raise _invalid()
        expires, count, through, fingerprint = _FORM.unpack(payload)
        if now >= datetime.fromtimestamp(expires, UTC):
            raise Conflict(
                "This confirmation has expired: repeat the dry run", code="confirmation_expired"
            )
        return SelectedBlocks(count, UUID(bytes=through), fingerprint)

    def _sign(self, payload: bytes, of: Mapping[str, Any]) -> bytes:
        signed = json.dumps(of, sort_keys=True).encode() + b"\x00" + payload
        return hmac.digest(self._secret, signed, hashlib.sha256)


def _invalid() -> Invalid:
    return Invalid(
        "This confirmation was not issued for this selection by this service",
        code="confirmation_invalid",
        field="confirmation",
    )
