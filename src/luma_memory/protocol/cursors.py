"""Opaque page cursors."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from luma_memory.domain.errors import Invalid


def encode_cursor(last: UUID) -> str:
    """A cursor that continues after the block `last`."""
    return base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def decode_cursor(cursor: str) -> UUID:
    """The block to continue after. Raises Invalid (code bad_cursor)."""
    try:
        return UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
    except (binascii.Error, ValueError):
        raise Invalid(
            "This cursor was not made by this service", code="bad_cursor", field="cursor"
        ) from None
