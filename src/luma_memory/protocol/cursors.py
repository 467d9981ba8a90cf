"""Opaque page cursors."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from luma_memory.domain.errors import Invalid
from luma_memory.domain.job import JOB_ID_MAX


def encode_cursor(last: UUID) -> str:
    """A cursor that continues after the block `last`."""
    return _encode(last.bytes)


def decode_cursor(cursor: str) -> UUID:
    """The block to continue after. Raises Invalid (code bad_cursor)."""
    return UUID(bytes=_decode(cursor, size_bytes=16))


def encode_job_cursor(last: int) -> str:
    """A cursor that continues after the job `last`."""
    return _encode(last.to_bytes(8, "big"))


def decode_job_cursor(cursor: str) -> int:
    """The job to continue after. Raises Invalid (code bad_cursor)."""
    job_id = int.from_bytes(_decode(cursor, size_bytes=8), "big")
    if job_id > JOB_ID_MAX:
        raise _bad_cursor()
    return job_id


def _encode(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def _decode(cursor: str, *, size_bytes: int) -> bytes:
    try:
        key = base64.urlsafe_b64decode(cursor + "==")
    except (binascii.Error, ValueError):
        raise _bad_cursor() from None
    if len(key) != size_bytes:
        raise _bad_cursor()
    return key


def _bad_cursor() -> Invalid:
    return Invalid("This cursor was not made by this service", code="bad_cursor", field="cursor")
