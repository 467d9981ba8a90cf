"""Opaque page cursors: signed, and valid for one list only."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from luma_memory.domain.errors import Invalid

_SIGNATURE_BYTES: Final = 16
_ID_BYTES: Final = 8


class Cursors:
    """secret: shared by all processes of an installation.

    owner: identifies the list, for example by project, user and "blocks". A cursor of another list,
    user or project is rejected like a forged one.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def after_block(self, last: UUID, *, owner: Sequence[str | None]) -> str:
        """A cursor that continues after the id `last` of a block or relation."""
        return self._encode(last.bytes, owner)

    def block(self, cursor: str, *, owner: Sequence[str | None]) -> UUID:
        """The block to continue after. Raises Invalid (code bad_cursor)."""
        return UUID(bytes=self._decode(cursor, owner, size_bytes=16))

    def after_number(self, last: int, *, owner: Sequence[str | None]) -> str:
        """A cursor that continues after the number `last` of a job or revision.

        Larger than an id where the list is merged from several partitions.
        """
        size = max(_ID_BYTES, (last.bit_length() + 7) // 8)
        return self._encode(last.to_bytes(size, "big"), owner)

    def number(self, cursor: str, *, owner: Sequence[str | None]) -> int:
        """The number to continue after. Raises Invalid (code bad_cursor)."""
        return int.from_bytes(self._decode(cursor, owner), "big")

    def after_values(self, last: Sequence[str | int | None], *, owner: Sequence[str | None]) -> str:
        """A cursor that continues after an entry with these values, of a list in their order."""
        return self._encode(json.dumps(last).encode(), owner)

    def values(self, cursor: str, *, owner: Sequence[str | None]) -> Sequence[str | int | None]:
        """The values to continue after. Raises Invalid (code bad_cursor)."""
        values: Sequence[str | int | None] = json.loads(self._decode(cursor, owner))
        return values

    def _encode(self, key: bytes, owner: Sequence[str | None]) -> str:
        return base64.urlsafe_b64encode(key + self._sign(key, owner)).decode().rstrip("=")

    def _decode(
        self, cursor: str, owner: Sequence[str | None], *, size_bytes: int | None = None
    ) -> bytes:
        try:
            signed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except (binascii.Error, ValueError):
            raise _bad_cursor() from None
        key, signature = signed[:-_SIGNATURE_BYTES], signed[-_SIGNATURE_BYTES:]
        fits = size_bytes is None or len(key) == size_bytes
        if not fits or not hmac.compare_digest(signature, self._sign(key, owner)):
            raise _bad_cursor()
        return key

    def _sign(self, key: bytes, owner: Sequence[str | None]) -> bytes:
        # As JSON, so that different lists of parts never have the same encoding.
        signed = json.dumps(owner).encode() + b"\x00" + key
        return hmac.digest(self._secret, signed, hashlib.sha256)[:_SIGNATURE_BYTES]


def _bad_cursor() -> Invalid:
    return Invalid(
        "This cursor was not issued for this list by this service",
        code="bad_cursor",
        field="cursor",
    )
