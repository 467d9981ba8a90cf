"""Webhooks over HTTP: endpoints, signed deliveries, retries and replays."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from tests.fakes.webhook_receiver import WebhookReceiver, hangs, responds
from tests.support.commands import run
from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.queue_faults import looking_at, until_true

from luma_memory.client import AsyncMemoryClient, Conflict, Invalid, NotFound, verify_webhook
from luma_memory.domain.access import EVERY_PERMISSION
from luma_memory.domain.webhook import EVENT_TYPES

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keyed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(
        tmp_path_factory.mktemp("webhooks") / "data",
        webhooks_allow_private=True,
        webhook_retry_ms=50,
        webhook_timeout_ms=2_000,
        worker_poll_interval_ms=100,
        relations_enabled=True,
    ) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver() as opened:
        yield opened


class Memory:
    """A client with a key of its own, and the project it is for."""

    def __init__(self, keyed: KeyedService, project_id: str) -> None:
        self.keyed = keyed
        self.project_id = project_id

    async def client(self, *permissions: Any, user_id: str | None = None) -> AsyncMemoryClient:
        key = await self.keyed.key(
            *(permissions or EVERY_PERMISSION), project_id=self.project_id, user_id=user_id
        )
        return AsyncMemoryClient(self.keyed.stack.base_url, api_key=key)


@pytest.fixture
def memory(keyed: KeyedService, request: pytest.FixtureRequest) -> Memory:
    """Of a project of its own for each test."""
    return Memory(keyed, request.node.name[:60])


async def test_a_block_that_becomes_active_is_delivered_signed_and_without_its_text(
    memory: Memory, receiver: WebhookReceiver
) -> None:
    async with await memory.client() as client:
        webhook = await client.create_webhook(receiver.url(), event_types=["block.active"])
        assert webhook.secret is not None
        assert webhook.secret.startswith("whsec_")
        assert len(base64.b64decode(webhook.secret.removeprefix("whsec_"))) == 32
        assert (await client.get_webhook(webhook.id)).secret is None
        block = {"user_id": "ada", "content": "I moved to Lisbon."}
        accepted = await client.ingest_block_async(block)
        await receiver.until(lambda: len(receiver.requests) == 1)
        (request,) = receiver.requests
        event = verify_webhook(request.body, request.headers, webhook.secret)
        assert event.type == "block.active"
        assert event.data == {
            "project_id": memory.project_id,
            "user_id": "ada",
            "block_id": str(accepted.id),
        }
        assert b"Lisbon" not in request.body
        await until_delivered(client, webhook.id, 1)
        (delivery,) = (await client.list_deliveries(webhook.id)).deliveries
        assert (delivery.status, delivery.attempts, delivery.response_status) == (
            *("delivered", 1),
            204,
        )
        assert delivery.event.id == request.event_id
        # Once more, under the same id.
        again = await client.replay_delivery(webhook.id, delivery.id)
        assert again.id > delivery.id
        await receiver.until(lambda: len(receiver.requests) == 2)
        assert receiver.requests[1].event_id == request.event_id
        assert receiver.requests[1].event == request.event


async def test_the_text_is_included_where_the_key_may_read_it(
    memory: Memory, receiver: WebhookReceiver
) -> None:
    key = await memory.keyed.key(*EVERY_PERMISSION, project_id=memory.project_id)
    async with AsyncMemoryClient(memory.keyed.stack.base_url, api_key=key) as client:
        await client.create_webhook(
            receiver.url(), event_types=["block.active"], include_content=True
        )
    async with await memory.client() as client:
        long = "Straße " * 10_000
        for content in ("I moved to Porto.", long):
            await client.ingest_block_async({"user_id": "ada", "content": content})
        await receiver.until(lambda: len(receiver.ids()) == 2)
        short, cut = (request for request in receiver.requests)
        if len(short.body) > len(cut.body):
            short, cut = cut, short
        assert short.event["data"]["content"] == "I moved to Porto."
        assert "content_truncated" not in short.event["data"]
        assert cut.event["data"]["content_truncated"] is True
        assert long.startswith(cut.event["data"]["content"])
        assert 10_000 < len(cut.body) <= 20_000
        # Once the key is revoked, ids alone.
        await memory.keyed.revoke(key)
        await client.ingest_block_async({"user_id": "ada", "content": "I moved to Faro."})
        await receiver.until(lambda: len(receiver.ids()) == 3)
        assert "content" not in receiver.requests[-1].event["data"]
    async with await memory.client("admin", "ingest") as client:
        with pytest.raises(Exception, match="permission `read`"):
            await client.create_webhook(receiver.url(), include_content=True)


async def test_every_type_of_event_is_delivered(memory: Memory, receiver: WebhookReceiver) -> None:
    async with await memory.client() as client:
        await client.create_webhook(receiver.url())
        for content, at in (
            ("I live in Berlin.", "2026-03-03T10:00:00Z"),
            ("I moved to Lisbon.", "2026-03-11T10:00:00Z"),
        ):
            block = {"user_id": "ada", "content": content, "speaker": "Ada", "occurred_at": at}
            await client.ingest_block_async(block)
        await receiver.until(lambda: "block.superseded" in types(receiver))
        await client.make_summary("ada", week="2026-W10")
        await receiver.until(lambda: "summary.created" in types(receiver))
        async with looking_at(memory.keyed.stack) as connection:
            await fail_a_block(connection, client)
        await receiver.until(lambda: {"block.failed", "job.failed"} <= types(receiver))
        receipt = await client.erase_user("ada")
        await receiver.until(lambda: "user.erased" in types(receiver))
        (erased,) = (r.event for r in receiver.requests if r.event["type"] == "user.erased")
        assert erased["data"] == {
            "project_id": memory.project_id,
            "user_id": "ada",
            "receipt_id": str(receipt.receipt_id),
        }
        found = {r.event["type"]: r.event["data"] for r in receiver.requests}
        assert {"superseded_by", "block_id"} <= set(found["block.superseded"])
        assert found["relation.created"]["relation_type"] == "supersedes"
        assert found["summary.created"]["week_start"] == "2026-03-02"
        assert found["job.failed"]["error_class"] == "internal"
        assert set(found) == {*EVENT_TYPES}


async def test_a_key_of_one_user_has_webhooks_of_that_user(
    memory: Memory, receiver: WebhookReceiver
) -> None:
    async with await memory.client() as all_users, await memory.client(user_id="bob") as of_bob:
        other = await all_users.create_webhook(receiver.url("/all"))
        webhook = await of_bob.create_webhook(receiver.url("/bob"))
        assert webhook.user_id == "bob"
        assert [w.id for w in await of_bob.list_webhooks()] == [webhook.id]
        with pytest.raises(NotFound):
            await of_bob.get_webhook(other.id)
        with pytest.raises(Exception, match="limited to another user"):
            await of_bob.create_webhook(receiver.url("/bob"), user_id="ada")
        for user in ("ada", "bob", "cem"):
            await all_users.ingest_block_async({"user_id": user, "content": "Hello."})
        await receiver.until(lambda: len(receiver.at("/all")) == 3 and receiver.at("/bob") != [])
        assert [r.event["data"]["user_id"] for r in receiver.at("/bob")] == ["bob"]
        # Erased with its user, as the user's keys are.
        await all_users.erase_user("bob")
        assert [w.id for w in await all_users.list_webhooks()] == [other.id]


async def test_failures_are_retried_and_pause_the_webhook_and_others_do_not_wait(
    memory: Memory, receiver: WebhookReceiver
) -> None:
    receiver.behaviors |= {"/500": responds(500), "/hangs": hangs}
    async with await memory.client() as client:
        failing = await client.create_webhook(receiver.url("/500"), event_types=["block.active"])
        await client.create_webhook(receiver.url("/hangs"), event_types=["block.active"])
        await client.create_webhook(receiver.url("/well"), event_types=["block.active"])
        for n in range(20):
            await client.ingest_block_async({"user_id": f"u{n}", "content": f"Number {n}."})
        await receiver.until(lambda: len(receiver.ids("/well")) == 20)
        await receiver.until(lambda: len(receiver.at("/500")) >= 7)
        # Bounded, and not one attempt for every event again and again.
        assert len(receiver.at("/hangs")) <= 20
        paused = await client.get_webhook(failing.id)
        assert paused.failures >= 5
        receiver.behaviors["/500"] = responds(200)
        await client.edit_webhook(failing.id, enabled=True)
        await receiver.until(lambda: len(receiver.ids("/500")) == 20)
        await until_delivered(client, failing.id, 20)
        assert (await client.get_webhook(failing.id)).failures == 0


async def test_gone_disables_and_another_status_does_not(
    memory: Memory, receiver: WebhookReceiver
) -> None:
    receiver.behaviors |= {"/gone": responds(410), "/moved": responds(302, Location="/well")}
    async with await memory.client() as client:
        gone = await client.create_webhook(receiver.url("/gone"))
        moved = await client.create_webhook(receiver.url("/moved"))
        await client.send_test_event(gone.id)
        await client.send_test_event(moved.id)
        async with looking_at(memory.keyed.stack) as connection:
            await until_true(
                connection,
                "EXISTS (SELECT FROM memory_webhooks WHERE id = $1 AND disabled_at IS NOT NULL)",
                gone.id,
            )
        assert "410" in ((await client.get_webhook(gone.id)).disabled_reason or "")
        with pytest.raises(Conflict) as refused:
            await client.send_test_event(gone.id)
        assert refused.value.code == "webhook_disabled"
        await receiver.until(lambda: len(receiver.at("/moved")) >= 2)  # a retry
        assert receiver.at("/well") == []
        assert (await client.get_webhook(moved.id)).enabled
        assert (await client.edit_webhook(gone.id, enabled=True)).enabled


async def test_a_rotated_secret_is_valid_beside_the_one_before(
    memory: Memory, receiver: WebhookReceiver
) -> None:
    async with await memory.client() as client:
        webhook = await client.create_webhook(receiver.url(), idempotency_key="first")
        repeated = await client.create_webhook(receiver.url(), idempotency_key="first")
        assert (repeated.id, repeated.secret) == (webhook.id, webhook.secret)
        with pytest.raises(Invalid):
            await client.create_webhook(receiver.url("/other"), idempotency_key="first")
        rotated = await client.edit_webhook(webhook.id, rotate_secret=True)
        assert rotated.secret is not None
        assert rotated.secret != webhook.secret
        again = await client.edit_webhook(webhook.id, rotate_secret=True)
        assert again.secret == rotated.secret
        await client.send_test_event(webhook.id)
        await receiver.until(lambda: len(receiver.requests) == 1)
        (request,) = receiver.requests
        for secret in (webhook.secret, rotated.secret):
            assert secret is not None
            assert verify_webhook(request.body, request.headers, secret).type == "webhook.test"
        async with looking_at(memory.keyed.stack) as connection:
            await connection.execute(
                "UPDATE memory_webhooks SET previous_secret_until = now() WHERE id = $1", webhook.id
            )
        await client.send_test_event(webhook.id)
        await receiver.until(lambda: len(receiver.requests) == 2)
        last = receiver.requests[1]
        assert verify_webhook(last.body, last.headers, rotated.secret).id == last.event_id
        with pytest.raises(Invalid) as refused:
            verify_webhook(last.body, last.headers, webhook.secret or "")
        assert refused.value.code == "webhook_signature_invalid"


async def test_the_command_manages_webhooks(memory: Memory, receiver: WebhookReceiver) -> None:
    key = await memory.keyed.key(*EVERY_PERMISSION, project_id=memory.project_id)

    async def called(*arguments: str, code: int = 0) -> str:
        ended = await asyncio.to_thread(
            run,
            "webhooks",
            *arguments,
            *("--url", memory.keyed.stack.base_url),
            MEMORY_API_KEY=key,
        )
        assert ended.returncode == code, ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stdout if code == 0 else ended.stderr

    wrong = await called("create", receiver.url(), "--type", "block.eaten", code=2)
    assert "block.active" in wrong
    arguments = ("--type", "block.failed", "--description", "a [bold]label")
    made = json.loads(await called("create", receiver.url(), *arguments, "--json"))
    assert made["event_types"] == ["block.failed"]
    assert "label" in await called("list")
    sent = json.loads(await called("test", made["id"], "--json"))
    await receiver.until(lambda: len(receiver.requests) == 1)
    rotated = (await called("rotate", made["id"])).split()[-1]
    await called("replay", made["id"], str(sent["id"]))
    await receiver.until(lambda: len(receiver.requests) == 2)
    assert len(receiver.ids()) == 1
    for secret in (made["secret"], rotated):
        last = receiver.requests[1]
        assert verify_webhook(last.body, last.headers, secret).type == "webhook.test"
    assert (await called("deliveries", made["id"])).count(sent["event"]["id"]) == 2
    await called("disable", made["id"])
    assert "webhook_disabled" not in await called("test", made["id"], code=1)
    await called("enable", made["id"])
    await called("delete", made["id"])
    assert json.loads(await called("list", "--json")) == []


async def test_a_deleted_webhook_hears_no_more(memory: Memory, receiver: WebhookReceiver) -> None:
    async with await memory.client() as client:
        webhook = await client.create_webhook(receiver.url("/gone"))
        other = await client.create_webhook(receiver.url("/other"))
        await client.delete_webhook(webhook.id)
        with pytest.raises(NotFound):
            await client.delete_webhook(webhook.id)
        await client.ingest_block_async({"user_id": "ada", "content": "Hello."})
        await receiver.until(lambda: receiver.at("/other") != [])
        assert receiver.at("/gone") == []
        assert [w.id for w in await client.list_webhooks()] == [other.id]


async def test_pending_deliveries_survive_a_cleared_queue(
    memory: Memory, receiver: WebhookReceiver
) -> None:
    receiver.behaviors["/late"] = responds(503)
    async with await memory.client() as client, looking_at(memory.keyed.stack) as connection:
        webhook = await client.create_webhook(receiver.url("/late"))
        await client.send_test_event(webhook.id)
        await receiver.until(lambda: receiver.at("/late") != [])
        await connection.execute("DELETE FROM memory_jobs WHERE status = 'pending'")
        receiver.behaviors["/late"] = responds(200)
        await until_delivered(client, webhook.id, 1)
        assert len(receiver.ids("/late")) == 1


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/", "https://", "not a url", "https://a:b@example.com/", "https://x/#part"],
)
async def test_a_url_that_is_none_is_refused(memory: Memory, url: str) -> None:
    async with await memory.client() as client:
        with pytest.raises(Invalid) as refused:
            await client.create_webhook(url)
        assert refused.value.code in ("webhook_url_invalid", "invalid_request")


async def test_a_project_has_a_limit_of_webhooks(memory: Memory) -> None:
    async with await memory.client() as client:
        created = [
            await client.create_webhook(f"https://example.com/{n}", event_types=["job.failed"])
            for n in range(50)
        ]
        with pytest.raises(Conflict) as refused:
            await client.create_webhook("https://example.com/51")
        assert refused.value.code == "too_many_webhooks"
        for webhook in created:
            await client.delete_webhook(webhook.id)


async def fail_a_block(connection: asyncpg.Connection, client: AsyncMemoryClient) -> None:
    """As a worker does when the last attempt has failed."""
    await connection.execute("SELECT pause_memory_jobs('enrich_and_embed')")
    accepted = await client.ingest_block_async({"user_id": "ada", "content": "Broken."})
    await connection.execute(
        "UPDATE memory_jobs SET status = 'processing', attempts = 1, locked_by = 'test',"
        " locked_until = now() + interval '1 hour' WHERE id = $1",
        accepted.job_id,
    )
    await connection.execute(
        "SELECT fail_memory_jobs(ARRAY[$1::bigint], ARRAY[1], 'test', ARRAY['internal'],"
        " ARRAY['broken'], ARRAY['1 s'::interval], ARRAY[true])",
        accepted.job_id,
    )
    await connection.execute("SELECT resume_memory_jobs()")


def types(receiver: WebhookReceiver) -> set[str]:
    return {request.event["type"] for request in receiver.requests}


async def until_delivered(client: AsyncMemoryClient, webhook_id: Any, count: int) -> None:
    async with asyncio.timeout(120):
        while True:
            page = await client.list_deliveries(webhook_id, status="delivered", limit=200)
            if len(page.deliveries) >= count:
                return
            await asyncio.sleep(0.05)
