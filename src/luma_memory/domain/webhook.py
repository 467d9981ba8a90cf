"""Events that applications subscribe to, the webhooks they are delivered to, and the deliveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

EventType = Literal[
    "block.active",
    "block.failed",
    "block.superseded",
    "relation.created",
    "summary.created",
    "user.erased",
    "job.failed",
]
EVENT_TYPES: Sequence[EventType] = get_args(EventType)
# What `POST /webhooks/{id}/test` delivers.
TEST_EVENT = "webhook.test"
DeliveryStatus = Literal["pending", "delivered", "failed"]
# Receivers may refuse larger bodies.
BODY_BYTES_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Webhook:
    """An endpoint that events are delivered to, without its secret."""

    id: UUID
    project_id: str
    user_id: str | None  # None: events of all users of the project
    url: str
    description: str | None
    event_types: Sequence[str]  # empty: every type
    include_content: bool
    created_by: str | None  # prefix of the API key that created it
    secret_version: int
    previous_secret_until: datetime | None
    created_at: datetime
    updated_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None
    failures: int  # consecutive failed attempts
    failing_since: datetime | None
    circuit_until: datetime | None  # no attempt before
    last_success_at: datetime | None


@dataclass(frozen=True, slots=True)
class WebhookChanges:
    """What is to change; None leaves a field as it is."""

    url: str | None = None
    description: str | None = None
    event_types: Sequence[EventType] | None = None
    include_content: bool | None = None
    enabled: bool | None = None
    rotate_secret: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened and was committed. `id` is the same in every delivery of it."""

    id: UUID
    type: str
    project_id: str
    user_id: str  # empty after an erasure, whose data names the user
    block_id: UUID | None
    data: Mapping[str, Any]
    created_at: datetime
    position: int = 0  # in the stream of events; rises

    def payload(self) -> dict[str, Any]:
        """What a receiver gets: ids, and no text of a memory."""
        owner = {"user_id": self.user_id} if self.user_id else {}
        block = {"block_id": str(self.block_id)} if self.block_id is not None else {}
        return {
            "type": self.type,
            "timestamp": self.created_at.isoformat().replace("+00:00", "Z"),
            "data": {"project_id": self.project_id, **owner, **block, **self.data},
        }

    @property
    def public_id(self) -> str:
        """The id on the wire, as in the header webhook-id."""
        return f"evt_{self.id.hex}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event for a webhook, delivered or not yet."""

    id: int
    event: Event
    status: DeliveryStatus
    attempts: int
    due_at: datetime  # of the next attempt, while it is pending
    attempted_at: datetime | None
    response_status: int | None  # of the last attempt; None if there was no response
    error: str | None
    created_at: datetime
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery whose time has come."""

    id: int
    event: Event
    attempts: int  # those before this one
    created_at: datetime
    content: str | None  # of the event's block, if the webhook includes it and its key may read it


@dataclass(frozen=True, slots=True)
class Response:
    """How a receiver responded to one request."""

    status: int | None  # None: there was no response
    error: str | None = None
    retry_after_seconds: float | None = None

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt of a delivery ended."""

    delivery_id: int
    response: Response
    retry_at: datetime | None  # None: delivered, or failed for good


@dataclass(frozen=True, slots=True)
class EndpointState:
    """What the attempts so far say of a webhook."""

    failures: int = 0
    failing_since: datetime | None = None
    circuit_until: datetime | None = None
    disabled_reason: str | None = None
