"""`webhooks`: manage the webhooks of a running service."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from luma_memory.cli.commands import command_group, examples
from luma_memory.cli.options import Url, service_url
from luma_memory.cli.output import console, plain, print_note
from luma_memory.cli.running import run_async
from luma_memory.cli.service import ServiceClient
from luma_memory.domain.webhook import EVENT_TYPES, DeliveryStatus, EventType
from luma_memory.protocol.webhooks import DeliveryBody, WebhookBody
from luma_memory.settings import load_settings

T = TypeVar("T")
_DELIVERIES_MAX: Final = 1_000
_SHOWN_ONCE: Final = "The secret is not shown again. Receivers verify signatures with it."
Id = Annotated[UUID, typer.Argument(metavar="ID", help="The webhook's id from `webhooks list`.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@examples("luma-memory webhooks list", "luma-memory webhooks list --json")
def webhooks_list(as_json: AsJson = False, url: Url = None) -> None:
    """List webhooks, oldest first, with their state."""
    found = _called(url, lambda client: client.list_webhooks())
    if as_json:
        _print_json([webhook.model_dump(mode="json", exclude={"secret"}) for webhook in found])
    elif found:
        console().print(_webhook_table(found))
    else:
        print_note("no webhooks")


@examples(
    "luma-memory webhooks create https://app.example.com/hooks --type block.active",
    "luma-memory webhooks create https://app.example.com/hooks --user ada --include-content",
)
def webhooks_create(
    target: Annotated[str, typer.Argument(metavar="URL", help="Receives the events.")],
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only events of this type; may be repeated."),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="Only events of this end user.")
    ] = None,
    description: Annotated[
        str | None, typer.Option("--description", metavar="TEXT", help="A label for the list.")
    ] = None,
    include_content: Annotated[
        bool, typer.Option("--include-content", help="Include the text of blocks.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Create a webhook and print its secret, which is shown only once."""
    chosen = [_event_type(name) for name in types or ()]
    made = _called(
        url,
        lambda client: client.create_webhook(
            target,
            event_types=chosen,
            user_id=user,
            description=description,
            include_content=include_content,
        ),
    )
    _print_secret(made, as_json)


@examples("luma-memory webhooks rotate 019cb3f2-0000-7000-8000-000000000000")
def webhooks_rotate(webhook_id: Id, as_json: AsJson = False, url: Url = None) -> None:
    """Make a new secret and print it; the one before stays valid for 24 hours."""
    _print_secret(
        _called(url, lambda client: client.edit_webhook(webhook_id, rotate_secret=True)), as_json
    )


def webhooks_enable(webhook_id: Id, url: Url = None) -> None:
    """Deliver again to a webhook that was disabled."""
    _called(url, lambda client: client.edit_webhook(webhook_id, enabled=True))
    console().print(f"enabled {webhook_id}")


def webhooks_disable(webhook_id: Id, url: Url = None) -> None:
    """Keep a webhook, and deliver nothing to it until it is enabled."""
    _called(url, lambda client: client.edit_webhook(webhook_id, enabled=False))
    console().print(f"disabled {webhook_id}")


def webhooks_delete(webhook_id: Id, url: Url = None) -> None:
    """Delete a webhook with its deliveries."""
    _called(url, lambda client: client.delete_webhook(webhook_id))
    console().print(f"deleted {webhook_id}")


def webhooks_test(webhook_id: Id, as_json: AsJson = False, url: Url = None) -> None:
    """Deliver an event of the type webhook.test; `webhooks deliveries` shows the outcome."""
    _print_delivery(_called(url, lambda client: client.send_test_event(webhook_id)), as_json)


@examples(
    "luma-memory webhooks deliveries 019cb3f2-0000-7000-8000-000000000000 --status failed",
)
def webhooks_deliveries(
    webhook_id: Id,
    status: Annotated[
        DeliveryStatus | None, typer.Option("--status", help="Only those with this status.")
    ] = None,
    limit: Annotated[
        int,
        typer.Option("--limit", metavar="N", min=1, max=_DELIVERIES_MAX, help="How many at most."),
    ] = 50,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Show deliveries, newest first: attempts, the receiver's status, the error."""

    async def listed(client: ServiceClient) -> Sequence[DeliveryBody]:
        found: list[DeliveryBody] = []
        async for delivery in client.iterate_deliveries(webhook_id, status=status):
            found.append(delivery)
            if len(found) == limit:
                break
        return found

    found = _called(url, listed)
    if as_json:
        _print_json([delivery.model_dump(mode="json") for delivery in found])
    elif found:
        console().print(_delivery_table(found))
    else:
        print_note("no deliveries")


@examples("luma-memory webhooks replay 019cb3f2-0000-7000-8000-000000000000 4711")
def webhooks_replay(
    webhook_id: Id,
    delivery_id: Annotated[
        int, typer.Argument(metavar="DELIVERY", min=1, help="From `webhooks deliveries`.")
    ],
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Deliver an event once more, under its id."""
    again = _called(url, lambda client: client.replay_delivery(webhook_id, delivery_id))
    _print_delivery(again, as_json)


def _called(url: str | None, call: Callable[[ServiceClient], Awaitable[T]]) -> T:
    settings = load_settings()

    async def calling() -> T:
        async with ServiceClient(service_url(url, settings), api_key=settings.client_key) as client:
            await client.live()
            return await call(client)

    return run_async(calling())


def _event_type(name: str) -> EventType:
    for known in EVENT_TYPES:
        if known == name:
            return known
    raise typer.BadParameter(f"must be one of {', '.join(EVENT_TYPES)}", param_hint="--type")


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _print_secret(webhook: WebhookBody, as_json: bool) -> None:
    if as_json:
        _print_json(webhook.model_dump(mode="json"))
        return
    console().print(f"webhook {webhook.id}", soft_wrap=True)
    typer.echo(webhook.secret)
    print_note(_SHOWN_ONCE)


def _print_delivery(delivery: DeliveryBody, as_json: bool) -> None:
    if as_json:
        _print_json(delivery.model_dump(mode="json"))
    else:
        console().print(f"delivery {delivery.id} of event {delivery.event.id}", soft_wrap=True)


def _webhook_table(found: Sequence[WebhookBody]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for title in ("id", "URL", "events", "user", "state", "failures", "description"):
        table.add_column(title, overflow="fold")
    for webhook in found:
        table.add_row(
            str(webhook.id),
            plain(webhook.url),
            ", ".join(webhook.event_types) or "all",
            plain(webhook.user_id or "all"),
            plain(_state(webhook)),
            str(webhook.failures),
            plain(webhook.description or ""),
        )
    return table


def _state(webhook: WebhookBody) -> str:
    if not webhook.enabled:
        return f"disabled: {webhook.disabled_reason}" if webhook.disabled_reason else "disabled"
    if webhook.paused_until is not None:
        return f"paused until {webhook.paused_until:%Y-%m-%d %H:%M:%S}"
    return "enabled"


def _delivery_table(found: Sequence[DeliveryBody]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for title in ("id", "event", "type", "status", "attempts", "response", "next attempt", "error"):
        table.add_column(title, overflow="fold")
    for delivery in found:
        table.add_row(
            str(delivery.id),
            delivery.event.id,
            plain(delivery.event.type),
            delivery.status,
            str(delivery.attempts),
            str(delivery.response_status or ""),
            f"{delivery.next_attempt_at:%Y-%m-%d %H:%M:%S}" if delivery.next_attempt_at else "",
            plain(delivery.error or ""),
        )
    return table


webhooks = command_group(
    f"""Manage webhooks: URLs to which a running service delivers its events
    ({", ".join(EVENT_TYPES)}).

    Needs a key with the permission `admin` (MEMORY_API_KEY), if the service has keys.""",
    (
        *(webhooks_list, webhooks_create, webhooks_rotate, webhooks_enable, webhooks_disable),
        *(webhooks_delete, webhooks_test, webhooks_deliveries, webhooks_replay),
    ),
    "luma-memory webhooks create https://app.example.com/hooks --type block.active",
    "luma-memory webhooks deliveries ID --status failed",
)
