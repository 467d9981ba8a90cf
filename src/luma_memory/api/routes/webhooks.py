"""Webhooks: endpoints, their deliveries, tests and replays."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Response

from luma_memory.api.problems import RESPONSES, problem_document
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.domain.errors import Invalid
from luma_memory.domain.job import JOB_ID_MAX
from luma_memory.domain.webhook import DeliveryStatus, WebhookChanges
from luma_memory.protocol.validation import Name
from luma_memory.protocol.webhooks import (
    DeliveryBody,
    DeliveryPageBody,
    NewWebhookBody,
    WebhookBody,
    WebhookEditBody,
    WebhookListBody,
)

BODY_BYTES_MAX = 20_000
PAGE_DELIVERIES_MAX = 200

router = APIRouter(prefix="/webhooks", tags=["webhooks"], route_class=ProtectedRoute)
_ONE = {**RESPONSES, 404: problem_document("There is no such webhook of this project and user.")}
_CREATED = {**RESPONSES, 409: problem_document("The project has too many; see `code`.")}
_ENABLED = {**_ONE, 409: problem_document("The webhook is disabled.")}
DeliveryId = Annotated[int, Path(ge=1, le=JOB_ID_MAX)]


# The response to a creation carries a secret, which is not stored for repeated requests.
@router.post(
    "",
    status_code=201,
    responses=_CREATED,
    max_body_size=BODY_BYTES_MAX,
    **permission("admin", remembered=False),
)
async def create_webhook(
    body: NewWebhookBody,
    service: ServiceDep,
    caller: CallerDep,
    idempotency_key: Annotated[
        Name | None,
        Header(description="Identifies this request: repeated, it returns the same webhook."),
    ] = None,
) -> WebhookBody:
    """Create a webhook. The response carries its `secret`, which is not shown again.

    A key limited to one user creates webhooks for this user only.
    """
    webhook, secret = await service.webhooks.create(
        caller,
        url=body.url,
        description=body.description,
        user_id=body.user_id,
        event_types=body.event_types,
        include_content=body.include_content,
        key=idempotency_key,
    )
    return WebhookBody.of(webhook, secret)


@router.get("", responses=RESPONSES, **permission("admin"))
async def list_webhooks(service: ServiceDep, caller: CallerDep) -> WebhookListBody:
    """Webhooks of the project, oldest first; with a key for one user, those of this user."""
    webhooks = await service.webhooks.list(caller)
    return WebhookListBody(webhooks=[WebhookBody.of(webhook) for webhook in webhooks])


@router.get("/{webhook_id}", responses=_ONE, **permission("admin"))
async def read_webhook(webhook_id: UUID, service: ServiceDep, caller: CallerDep) -> WebhookBody:
    """One webhook, without its secret."""
    return WebhookBody.of(await service.webhooks.find(caller, webhook_id))


@router.patch(
    "/{webhook_id}",
    responses=_ONE,
    max_body_size=BODY_BYTES_MAX,
    **permission("admin", remembered=False),
)
async def edit_webhook(
    webhook_id: UUID, body: WebhookEditBody, service: ServiceDep, caller: CallerDep
) -> WebhookBody:
    """Change a webhook, enable or disable it, or rotate its secret.

    With `rotate_secret`, the response carries the new `secret`; repeated within 24 hours, the same.
    """
    named = body.model_dump(include=body.model_fields_set)
    if not named:
        raise Invalid("Name at least one field to change", code="changes_missing")
    webhook, secret = await service.webhooks.change(caller, webhook_id, WebhookChanges(**named))
    return WebhookBody.of(webhook, secret)


@router.delete("/{webhook_id}", status_code=204, responses=_ONE, **permission("admin"))
async def delete_webhook(webhook_id: UUID, service: ServiceDep, caller: CallerDep) -> Response:
    """Delete a webhook with its deliveries; pending ones are not sent."""
    await service.webhooks.delete(caller, webhook_id)
    return Response(status_code=204)


@router.get("/{webhook_id}/deliveries", responses=_ONE, **permission("admin"))
async def list_deliveries(
    webhook_id: UUID,
    service: ServiceDep,
    caller: CallerDep,
    status: DeliveryStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_DELIVERIES_MAX)] = 50,
    cursor: Name | None = None,
) -> DeliveryPageBody:
    """Deliveries of a webhook, newest first."""
    owner = (caller.project_id, caller.user_id, f"deliveries {webhook_id}")
    below = service.cursors.number(cursor, owner=owner) if cursor else JOB_ID_MAX
    page = await service.webhooks.deliveries(
        caller, webhook_id, status=status, below=below, limit=limit
    )
    return DeliveryPageBody(
        deliveries=[DeliveryBody.of(delivery) for delivery in page.deliveries],
        next_cursor=(
            service.cursors.after_number(page.next_below, owner=owner) if page.next_below else None
        ),
    )


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/replay",
    status_code=202,
    responses=_ENABLED,
    **permission("admin"),
)
async def replay_delivery(
    webhook_id: UUID, delivery_id: DeliveryId, service: ServiceDep, caller: CallerDep
) -> DeliveryBody:
    """Deliver an event once more, under the same event id. The response is the new delivery."""
    return DeliveryBody.of(await service.webhooks.replay(caller, webhook_id, delivery_id))


@router.post("/{webhook_id}/test", status_code=202, responses=_ENABLED, **permission("admin"))
async def test_webhook(webhook_id: UUID, service: ServiceDep, caller: CallerDep) -> DeliveryBody:
    """Deliver an event of the type `webhook.test`. Its outcome is in the list of deliveries."""
    return DeliveryBody.of(await service.webhooks.test(caller, webhook_id))
