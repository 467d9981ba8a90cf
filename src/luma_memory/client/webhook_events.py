"""Verify what a webhook receives."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from luma_memory.domain.errors import Invalid
from luma_memory.domain.webhook_signatures import ID_HEADER, TOLERANCE_SECONDS, check_signature
from luma_memory.protocol.webhooks import EventBody


class _Body(BaseModel):
    type: str
    timestamp: datetime
    data: dict[str, Any]


def verify_webhook(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> EventBody:
    """The event of a request, if its signature is the secret's and it was sent just now.

    body: as received, before any parsing. headers: of the request, in any case. secret: `whsec_…`
    from `create_webhook`. now: Unix time, for tests. Raises Invalid, code
    webhook_signature_invalid or webhook_body_invalid. Compare the event's `id` with those that were
    handled before: a delivery may arrive more than once.
    """
    raw = body.encode() if isinstance(body, str) else bytes(body)
    moment = time.time() if now is None else now
    check_signature(raw, headers, secret, now=moment, tolerance_seconds=tolerance_seconds)
    try:
        parsed = _Body.model_validate_json(raw)
    except ValidationError:
        raise Invalid("The webhook's body is not an event", code="webhook_body_invalid") from None
    event_id = {name.lower(): value for name, value in headers.items()}[ID_HEADER]
    return EventBody(id=event_id, type=parsed.type, timestamp=parsed.timestamp, data=parsed.data)
