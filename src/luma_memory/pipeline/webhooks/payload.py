"""What a receiver is sent: a body of bounded size, and its signatures."""

from __future__ import annotations

import json
from datetime import datetime
from hashlib import sha256
from hmac import digest
from typing import Final
from uuid import UUID

from luma_memory.domain.webhook import BODY_BYTES_MAX, DueDelivery, Webhook

# Space for the ids around a text.
_CONTENT_BYTES_MAX: Final = BODY_BYTES_MAX - 4_000


def signing_key(root: bytes, webhook_id: UUID, version: int) -> bytes:
    """The secret of a webhook: 32 bytes, derived, so that none is stored."""
    return digest(root, b"webhook %b %d" % (webhook_id.bytes, version), sha256)


def valid_keys(root: bytes, webhook: Webhook, *, now: datetime) -> list[bytes]:
    """The current secret, and the one before while it is still valid."""
    keys = [signing_key(root, webhook.id, webhook.secret_version)]
    if webhook.previous_secret_until is not None and now < webhook.previous_secret_until:
        keys.append(signing_key(root, webhook.id, webhook.secret_version - 1))
    return keys


def body_of(delivery: DueDelivery) -> bytes:
    """JSON of at most BODY_BYTES_MAX bytes; a longer text is cut and marked."""
    payload = delivery.event.payload()
    if delivery.content is not None:
        content, is_cut = _fitting(delivery.content)
        payload["data"]["content"] = content
        if is_cut:
            payload["data"]["content_truncated"] = True
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def _fitting(text: str) -> tuple[str, bool]:
    """The longest start of a text whose JSON fits."""
    whole = json.dumps(text, ensure_ascii=False)
    if len(whole.encode()) <= _CONTENT_BYTES_MAX:
        return text, False
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if len(json.dumps(text[:middle], ensure_ascii=False).encode()) <= _CONTENT_BYTES_MAX:
            low = middle
        else:
            high = middle - 1
    return text[:low], True
