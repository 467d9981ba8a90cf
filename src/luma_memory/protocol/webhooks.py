"""Webhooks and their deliveries on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.domain.webhook import Delivery, DeliveryStatus, Event, EventType, Webhook
from luma_memory.protocol.validation import Name

URL_CHARACTERS_MAX = 2_000
_EXAMPLE_URL = "https://app.example.com/hooks/memory"
Url = Annotated[str, Field(min_length=8, max_length=URL_CHARACTERS_MAX)]
EventTypes = Annotated[
    list[EventType],
    Field(max_length=20, description="Deliver events of these types; empty for all."),
]


class NewWebhookBody(BaseModel):
    """A webhook to create."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"url": _EXAMPLE_URL, "event_types": ["block.active", "block.superseded"]}]
        },
    )

    url: Url = Field(description="Receives `POST` requests; `https://` and a public address.")
    description: Name | None = None
    user_id: Name | None = Field(
        default=None, description="Only events of this user; null for all users of the project."
    )
    event_types: EventTypes = Field(default_factory=list)
    include_content: bool = Field(
        default=False,
        description="Include the block's text. Needs the permission `read`, also later.",
    )


class WebhookEditBody(BaseModel):
    """What to change of a webhook."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"minProperties": 1, "examples": [{"enabled": True}]},
    )

    # Optional but not nullable; the defaults are never read.
    url: Url = Field(default="")
    description: Name = Field(default="")
    event_types: EventTypes = Field(default_factory=list)
    include_content: bool = False
    enabled: bool = Field(
        default=True, description="true delivers again after the webhook was disabled."
    )
    rotate_secret: bool = Field(
        default=False,
        description="Make a new secret; the one before stays valid for 24 hours.",
    )


class WebhookBody(BaseModel):
    """A webhook."""

    id: UUID
    url: str
    description: str | None
    user_id: str | None = Field(description="null: events of all users of the project.")
    event_types: list[str] = Field(description="Empty: every type.")
    include_content: bool
    enabled: bool
    disabled_reason: str | None
    previous_secret_until: datetime | None = Field(
        description="Until then, requests are signed with the secret before as well."
    )
    failures: int = Field(description="Consecutive failed attempts.")
    paused_until: datetime | None = Field(description="No attempt before, after failures.")
    last_success_at: datetime | None
    created_at: datetime
    updated_at: datetime
    secret: str | None = Field(
        default=None, description="Only in the response that creates or rotates it; keep it."
    )

    @classmethod
    def of(cls, webhook: Webhook, secret: str | None = None) -> WebhookBody:
        return cls(
            id=webhook.id,
            url=webhook.url,
            description=webhook.description,
            user_id=webhook.user_id,
            event_types=list(webhook.event_types),
            include_content=webhook.include_content,
            enabled=webhook.disabled_at is None,
            disabled_reason=webhook.disabled_reason,
            previous_secret_until=webhook.previous_secret_until,
            failures=webhook.failures,
            paused_until=webhook.circuit_until,
            last_success_at=webhook.last_success_at,
            created_at=webhook.created_at,
            updated_at=webhook.updated_at,
            secret=secret,
        )


class WebhookListBody(BaseModel):
    """Webhooks, oldest first."""

    webhooks: list[WebhookBody]


class EventBody(BaseModel):
    """An event: ids, and no text of a memory."""

    id: str = Field(description="The same in every delivery, also in the header `webhook-id`.")
    type: str = Field(examples=["block.active"])
    timestamp: datetime
    data: dict[str, Any] = Field(
        json_schema_extra={"additionalProperties": True},
        description="`project_id`, `user_id` and the ids of what it is about.",
    )

    @classmethod
    def of(cls, event: Event) -> EventBody:
        return cls(
            id=event.public_id,
            type=event.type,
            timestamp=event.created_at,
            data=event.payload()["data"],
        )


class StreamedEventBody(EventBody):
    """An event of the stream."""

    position: int = Field(description="Continue after it with `after`.")

    @classmethod
    def of(cls, event: Event) -> StreamedEventBody:
        return cls(**EventBody.of(event).model_dump(), position=event.position)


class DeliveryBody(BaseModel):
    """A delivery of an event to a webhook."""

    id: int
    event: EventBody
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime | None = Field(description="null once it has ended.")
    attempted_at: datetime | None
    response_status: int | None = Field(description="Of the last attempt; null: no response.")
    error: str | None
    created_at: datetime
    delivered_at: datetime | None

    @classmethod
    def of(cls, delivery: Delivery) -> DeliveryBody:
        return cls(
            id=delivery.id,
            event=EventBody.of(delivery.event),
            status=delivery.status,
            attempts=delivery.attempts,
            next_attempt_at=delivery.due_at if delivery.status == "pending" else None,
            attempted_at=delivery.attempted_at,
            response_status=delivery.response_status,
            error=delivery.error,
            created_at=delivery.created_at,
            delivered_at=delivery.delivered_at,
        )


class DeliveryPageBody(BaseModel):
    """Deliveries, newest first."""

    deliveries: list[DeliveryBody]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page.")
