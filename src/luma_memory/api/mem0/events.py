"""Events: what became of an add, read from its blocks and their jobs.

Nothing is stored for an event. Its id says whose the blocks are and which; the project and the
permission come from the caller's key, as for every other request, so that a made-up id shows
nothing that the key could not read anyway.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final, Literal
from uuid import UUID

from luma_memory.api.mem0.bodies import MESSAGES_MAX
from luma_memory.api.mem0.memories import added
from luma_memory.domain.block import Block
from luma_memory.domain.job import JobRecord
from luma_memory.protocol.validation import NAME_CHARACTERS_MAX

EventStatus = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED"]
_MARK: Final = "evt_"
_ID_BYTES: Final = 16
# A name of four bytes a character, and the ids.
EVENT_ID_CHARACTERS_MAX: Final = len(_MARK) + 2 * (4 * NAME_CHARACTERS_MAX + 16 * MESSAGES_MAX)


def event_id(user_id: str, block_ids: Sequence[UUID]) -> str:
    """The id of the event that added these blocks to a scope."""
    name = user_id.encode()
    packed = len(name).to_bytes(2, "big") + name + b"".join(one.bytes for one in block_ids)
    return _MARK + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_event_id(text: str) -> tuple[str, Sequence[UUID]] | None:
    """The user_id and the blocks of an event's id; None for what is none."""
    if not text.startswith(_MARK) or len(text) > EVENT_ID_CHARACTERS_MAX:
        return None
    body = text.removeprefix(_MARK)
    try:
        packed = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        length = int.from_bytes(packed[:2], "big")
        name, ids = packed[2 : 2 + length].decode(), packed[2 + length :]
    except (binascii.Error, ValueError):
        return None
    count, rest = divmod(len(ids), _ID_BYTES)
    if rest or not name or "\x00" in name or not 1 <= count <= MESSAGES_MAX:
        return None
    return name, [
        UUID(bytes=ids[start : start + _ID_BYTES]) for start in range(0, len(ids), _ID_BYTES)
    ]


def event_status(blocks: Sequence[Block], jobs: Sequence[JobRecord]) -> EventStatus:
    """FAILED once a block has failed, SUCCEEDED once all are active.

    jobs: of blocks that are pending. One that will never run has failed: it was cancelled.
    """
    if any(block.status == "failed" for block in blocks):
        return "FAILED"
    if all(block.status == "active" for block in blocks):
        return "SUCCEEDED"
    if any(job.status in ("cancelled", "failed") for job in jobs):
        return "FAILED"
    if any(block.status == "active" for block in blocks) or any(job.started_at for job in jobs):
        return "RUNNING"
    return "PENDING"


def event(identity: str, blocks: Sequence[Block], jobs: Sequence[JobRecord]) -> dict[str, Any]:
    """An event in mem0's form."""
    status = event_status(blocks, jobs)
    created_at = min(block.created_at for block in blocks)
    updated_at = max(block.updated_at for block in blocks)
    ended = status in ("SUCCEEDED", "FAILED")
    errors = [block.error for block in blocks if block.error] + [
        job.last_error for job in jobs if job.last_error
    ]
    return {
        "id": identity,
        "event_id": identity,
        "event_type": "ADD",
        "status": status,
        "results": [added(block.id, block.content, is_new=True) for block in blocks],
        "error": errors[0] if status == "FAILED" and errors else None,
        "created_at": created_at.isoformat(),
        "updated_at": updated_at.isoformat(),
        "completed_at": updated_at.isoformat() if ended else None,
        "latency": (updated_at - created_at).total_seconds() * 1_000 if ended else None,
    }
