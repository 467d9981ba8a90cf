"""The table of behaviors, for the Python SDKs and the TypeScript SDK."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from tests.support.sdk_behaviors import (
    BEHAVIORS,
    Behavior,
    ScriptedService,
    check,
    scripted_service,
)
from tests.support.typescript_sdk import RUNTIMES, built_sdk, runtime_command

from luma_memory.client import AsyncMemoryClient, LumaMemoryError, MemoryClient, Retries
from luma_memory.domain.webhook_signatures import secret_text, signed_headers

pytestmark = pytest.mark.asyncio(loop_scope="module")
BLOCK: Any = "0199a0b2-0000-7000-8000-000000000001"
ROWS = pytest.mark.parametrize("row", BEHAVIORS, ids=lambda row: row.name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service() -> AsyncIterator[ScriptedService]:
    async with scripted_service() as running:
        yield running


def options_of(row: Behavior) -> dict[str, Any]:
    """Short pauses: the rows that wait state a Retry-After."""
    given = {"attempts_max": 3, "timeout_seconds": 20.0, "api_key": None, **row.options}
    return {
        "api_key": given["api_key"],
        "timeout_seconds": given["timeout_seconds"],
        "retries": Retries(
            attempts_max=given["attempts_max"], seconds_max=20.0, first_pause_seconds=0.01
        ),
    }


def outcome_of(error: LumaMemoryError) -> dict[str, Any]:
    return {
        "error": [type(error).__name__, error.code],
        "retry_after_seconds": getattr(error, "retry_after_seconds", None),
        "request_id": error.request_id,
    }


async def perform(sdk: AsyncMemoryClient, call: Mapping[str, Any]) -> object:
    user_id = call.get("user_id", "ada")
    match call["do"]:
        case "get_block":
            return str((await sdk.get_block(BLOCK, user_id=user_id)).id)
        case "ingest":
            block = {"user_id": user_id, "content": "x"}
            return str((await sdk.ingest_block_async(block, idempotency_key=call.get("key"))).id)
        case "erase":
            return (await sdk.erase_user(user_id)).model_dump()
        case "delete_block":
            await sdk.delete_block(BLOCK, user_id=user_id, revision=call["revision"])
            return None
        case "iterate_blocks":
            return [block.content async for block in sdk.iterate_blocks(user_id)]
        case "wait":
            seconds = call.get("timeout_seconds", 10.0)
            found = await sdk.wait_until_active(BLOCK, user_id=user_id, timeout_seconds=seconds)
            return str(found.id)
        case "export":
            return len([line async for line in sdk.export_user(user_id)])
        case "import":
            return await sdk.import_user(user_id, io.BytesIO(b"{}\n"))
        case "events":
            return await events(sdk, call)
        case other:
            raise ValueError(other)


async def events(sdk: AsyncMemoryClient, call: Mapping[str, Any]) -> list[int]:
    found: list[int] = []
    stream = sdk.iterate_events(after=call.get("after"), follow="count" in call)
    async for event in stream:
        found.append(event.position)
        if len(found) == call.get("count"):
            break
    return found


def perform_blocking(sdk: MemoryClient, call: Mapping[str, Any]) -> object:
    """The same calls, with the methods of the same names."""

    class Awaitable:
        def __getattr__(self, name: str) -> Any:
            method = getattr(sdk, name)
            if name.startswith(("iterate_", "export_")):
                return lambda *given, **named: _iterated(method(*given, **named))
            return lambda *given, **named: _awaited(method(*given, **named))

    coroutine = perform(Awaitable(), call)  # type: ignore[arg-type]
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    raise AssertionError("nothing is awaited")


async def _awaited(value: Any) -> Any:
    return value


async def _iterated(values: Any) -> AsyncIterator[Any]:
    for value in values:
        yield value


@ROWS
async def test_python_with_asyncio(service: ScriptedService, row: Behavior) -> None:
    name = f"asyncio-{BEHAVIORS.index(row)}"
    url = service.start(row, name)
    async with AsyncMemoryClient(url, **options_of(row)) as sdk:
        try:
            if row.call["do"] == "abort":
                value: object = await aborted(sdk, service, name)
            else:
                value = await perform(sdk, row.call)
            outcome = {"value": value}
        except LumaMemoryError as error:
            outcome = outcome_of(error)
    check(row, outcome, service.seen[name])


async def aborted(sdk: AsyncMemoryClient, service: ScriptedService, name: str) -> str:
    task = asyncio.create_task(sdk.get_block(BLOCK, user_id="ada"))
    while not service.seen[name]:  # noqa: ASYNC110 - a request arrives
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "aborted"
    return "not aborted"


@ROWS
async def test_python_without_asyncio(service: ScriptedService, row: Behavior) -> None:
    if not row.sync:
        pytest.skip("a blocking call is ended by its timeout alone")
    name = f"blocking-{BEHAVIORS.index(row)}"
    url = service.start(row, name)

    def run() -> dict[str, Any]:
        with MemoryClient(url, **options_of(row)) as sdk:
            try:
                return {"value": perform_blocking(sdk, row.call)}
            except LumaMemoryError as error:
                return outcome_of(error)

    check(row, await asyncio.to_thread(run), service.seen[name])


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_typescript(service: ScriptedService, runtime: str) -> None:
    sdk = await asyncio.to_thread(built_sdk)
    command = runtime_command(runtime)
    given = [
        {
            "call": dict(row.call),
            "options": dict(row.options),
            "url": service.start(row, f"{runtime}-{number}"),
        }
        for number, row in enumerate(BEHAVIORS)
    ]
    printed = await sdk.run("test/behaviors.mjs", json.dumps(given), runtime=command)
    outcomes = json.loads(printed)
    wrong = []
    for number, row in enumerate(BEHAVIORS):
        try:
            check(row, outcomes[number], service.seen[f"{runtime}-{number}"])
        except AssertionError as error:
            wrong.append(f"{row.name}: {error} {outcomes[number]}")
    assert wrong == []


async def test_typescript_verifies_webhooks() -> None:
    sdk = await asyncio.to_thread(built_sdk)
    old, new = b"o" * 32, b"n" * 32
    body = '{"type": "block.active", "timestamp": "2026-03-04T10:00:00Z", "data": {"é": 1}}'
    headers = signed_headers([new, old], message_id="evt_1", timestamp=1000, body=body.encode())
    upper = {name.title(): text for name, text in headers.items()}
    no_event = signed_headers([old], message_id="evt_2", timestamp=1000, body=b"[]")
    event, refused = ["evt_1", "block.active"], "webhook_signature_invalid"
    cases: list[tuple[str, Mapping[str, str], str, float, object]] = [
        (body, headers, secret_text(old), 1000, event),
        (body, upper, secret_text(new), 1299, event),
        (body, headers, secret_text(new), 1301, refused),
        (body, headers, secret_text(new), 699, refused),
        (body, headers, secret_text(b"x" * 32), 1000, refused),
        (body + " ", headers, secret_text(new), 1000, refused),
        (body, {**headers, "webhook-timestamp": "1001"}, secret_text(new), 1000, refused),
        (body, {**headers, "webhook-timestamp": "soon"}, secret_text(new), 1000, refused),
        (body, {**headers, "webhook-id": "evt_2"}, secret_text(new), 1000, refused),
        (body, {"webhook-id": "evt_1"}, secret_text(new), 1000, refused),
        (body, headers, "whsec_???", 1000, refused),
        ("[]", no_event, secret_text(old), 1000, "webhook_body_invalid"),
    ]
    given = [
        {"body": body, "headers": dict(headers), "secret": secret, "now": now}
        for body, headers, secret, now, _ in cases
    ]
    found = json.loads(await sdk.run("test/webhooks.mjs", json.dumps(given)))
    assert found == [expected for *_, expected in cases]
