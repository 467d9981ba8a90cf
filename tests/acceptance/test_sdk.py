"""Both clients of the SDK against a real service, and the examples of its page."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import pytest_asyncio
from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.servers import Servers
from tests.support.tcp_proxy import hanging_server, proxied

from luma_memory.cli.processes import Stack
from luma_memory.client import (
    NO_RETRIES,
    AsyncMemoryClient,
    Conflict,
    Forbidden,
    Invalid,
    LumaMemoryError,
    MemoryClient,
    NewBlockBody,
    NotFound,
    PreconditionFailed,
    Retries,
    SetupError,
    Unauthenticated,
    UnavailableError,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
PAGE = (Path(__file__).parents[2] / "docs" / "sdk.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PROMISED = re.compile(r"^ *# > (.*)$", re.MULTILINE)


class Threaded:
    """The synchronous client, each call in a thread, so that one test serves for both."""

    def __init__(self, client: MemoryClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        if inspect.isgeneratorfunction(method):
            return lambda *given, **named: _iterated(method, *given, **named)
        return lambda *given, **named: asyncio.to_thread(method, *given, **named)


async def _iterated(method: Callable[..., Any], *given: Any, **named: Any) -> AsyncIterator[Any]:
    for value in await asyncio.to_thread(lambda: list(method(*given, **named))):
        yield value


@asynccontextmanager
async def connected(kind: str, url: str, **options: Any) -> AsyncIterator[Any]:
    if kind == "async":
        async with AsyncMemoryClient(url, **options) as client:
            yield client
    else:
        with MemoryClient(url, **options) as blocking:
            yield Threaded(blocking)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(servers: Servers) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(servers, relations_enabled=True) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(service: KeyedService) -> str:
    return await service.key("ingest", "read", "admin")


@pytest_asyncio.fixture(loop_scope="module", params=["async", "sync"])
async def sdk(
    request: pytest.FixtureRequest, service: KeyedService, key: str
) -> AsyncIterator[Any]:
    async with connected(request.param, service.stack.base_url, api_key=key) as client:
        yield client


@pytest.fixture(params=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    text: str = request.param
    return text


@pytest.fixture
def user() -> str:
    return f"sdk/{uuid4()}"


async def failure(call: Awaitable[Any]) -> LumaMemoryError:
    with pytest.raises(LumaMemoryError) as caught:
        await call
    return caught.value


async def test_a_block_from_its_birth_to_its_end(sdk: Any, user: str) -> None:
    new = NewBlockBody(user_id=user, content="Ada keeps bees.", speaker="Ada", metadata={"n": 1})
    accepted = await sdk.ingest_block_async(new)
    assert accepted.status == "pending_enrichment"
    block = await sdk.wait_until_active(accepted.id, user_id=user)
    assert (block.content, block.speaker, block.metadata) == ("Ada keeps bees.", "Ada", {"n": 1})

    edited = await sdk.edit_block(
        block.id, {"content": "Ada keeps bees and hens."}, user_id=user, revision=block.revision
    )
    assert edited.revision == block.revision + 1
    stale = await failure(sdk.delete_block(block.id, user_id=user, revision=block.revision))
    assert isinstance(stale, PreconditionFailed)
    await sdk.wait_until_active(block.id, user_id=user)
    was = [change async for change in sdk.iterate_revisions(block.id, user_id=user, page_size=1)]
    assert "Ada keeps bees." in [change.before.get("content") for change in was]

    response = await sdk.search("hens", user_id=user, explain=True)
    assert [hit.block.id for hit in response.results] == [block.id]
    context = await sdk.get_context("What does Ada keep?", user_id=user, timeout_ms=20_000)
    assert [entry.id for entry in context.blocks] == [block.id]

    await sdk.delete_block(block.id, user_id=user, revision=edited.revision)
    gone = await failure(sdk.get_block(block.id, user_id=user))
    assert isinstance(gone, NotFound)
    assert gone.code == "block_not_found"
    assert gone.request_id


async def test_relations_weeks_and_settings(sdk: Any, user: str) -> None:
    ids = []
    for text, day in (
        ("I live in Berlin.", 3),
        ("I moved to Lisbon.", 11),
        ("I moved to Rome.", 12),
    ):
        block = {"user_id": user, "content": text, "occurred_at": f"2026-03-{day:02}T10:00:00Z"}
        ids.append((await sdk.ingest_block(block)).id)
        while len(ids) > 1 and not [  # noqa: ASYNC110 - a worker changes it
            one async for one in sdk.iterate_block_relations(ids[-1], user_id=user, page_size=1)
        ]:
            await asyncio.sleep(0.05)
    page = await sdk.list_relations(user, relation_type="supersedes", limit=1)
    assert page.next_cursor
    found = [one async for one in sdk.iterate_relations(user, page_size=1)]
    assert {one.type for one in found} == {"supersedes"}
    assert page.relations[0] == found[0]
    assert (await sdk.get_block(ids[0], user_id=user)).superseded_by == ids[1]
    (first,) = [one for one in found if {one.source_id, one.target_id} == {ids[0], ids[1]}]
    decided = await sdk.decide_relation(first.id, "rejected", user_id=user)
    assert decided.status == "rejected"
    rejected = await sdk.list_relations(user, status="rejected")
    assert [one.id for one in rejected.relations] == [first.id]
    unknown = await failure(sdk.decide_relation(uuid4(), "accepted", user_id=user))
    assert (type(unknown), unknown.code) == (NotFound, "relation_not_found")

    assert (await sdk.get_user(user)).time_zone == "UTC"
    assert (await sdk.edit_user(user, {"time_zone": "Asia/Tokyo"})).time_zone == "Asia/Tokyo"
    assert (await sdk.get_user(user)).time_zone == "Asia/Tokyo"
    nowhere = await failure(sdk.edit_user(user, {"time_zone": "Mars/Olympus"}))
    assert (type(nowhere), nowhere.code) == (Invalid, "time_zone_unknown")

    for week in ("2026-W10", "2026-W11"):
        made = await sdk.make_summary(user, week=week)
        assert (made.week, made.time_zone) == (week, "Asia/Tokyo")
    weeks = [made.week async for made in sdk.iterate_summaries(user, page_size=1)]
    assert weeks == ["2026-W11", "2026-W10"]
    assert len((await sdk.list_summaries(user, limit=1)).summaries) == 1
    assert (await sdk.list_summaries(user, until="1999-W01")).summaries == []
    empty = await failure(sdk.make_summary(user, week="2026-W01"))
    assert (type(empty), empty.code) == (NotFound, "week_empty")


async def test_waiting_for_the_enriched_block(sdk: Any, user: str) -> None:
    block = await sdk.ingest_block({"user_id": user, "content": "The lighthouse is painted red."})
    assert block.status == "active"
    assert block.title
    pending = await sdk.ingest_block_async({"user_id": user, "content": "And the door is green."})
    (active,) = await sdk.wait_until_all_active([pending.id], user_id=user)
    assert active.id == pending.id
    late = await failure(sdk.wait_until_active(uuid4(), user_id=user))
    assert isinstance(late, NotFound)


async def test_any_number_of_blocks_and_pages(sdk: Any, user: str) -> None:
    def blocks() -> Any:
        for number in range(450):
            yield {"user_id": user, "content": "" if number == 333 else f"Note {number}"}

    first = [item async for item in sdk.ingest_many(blocks(), idempotency_key=f"k-{user}")]
    assert [item.index for item in first] == list(range(450))
    assert [item.index for item in first if item.error] == [333]
    again = [item async for item in sdk.ingest_many(blocks(), idempotency_key=f"k-{user}")]
    assert [item.id for item in again] == [item.id for item in first]
    listed = [block.id async for block in sdk.iterate_blocks(user, page_size=200)]
    assert set(listed) == {item.id for item in first if item.id}
    assert len(listed) == 449
    response = await sdk.ingest_batch_async([{"user_id": user, "content": "One more"}, {"x": 1}])
    assert (response.accepted, response.rejected) == (1, 1)


async def test_jobs(sdk: Any, user: str) -> None:
    accepted = await sdk.ingest_block_async({"user_id": user, "content": "A job comes with it."})
    await sdk.wait_until_active(accepted.id, user_id=user)
    job = await sdk.get_job(accepted.job_id, user_id=user)
    assert job.block_id == accepted.id
    jobs = [entry.id async for entry in sdk.iterate_jobs(user_id=user, page_size=1)]
    assert accepted.job_id in jobs
    assert isinstance(await failure(sdk.retry_job(accepted.job_id, user_id=user)), Conflict)
    assert isinstance(await failure(sdk.cancel_job(accepted.job_id, user_id=user)), Conflict)
    assert (await sdk.retry_jobs(user_id=user)).retried == 0
    unfiltered = await failure(sdk.retry_jobs())
    assert unfiltered.code == "filter_missing"
    assert (await sdk.job_stats()).completed > 0


async def test_many_things_at_once(sdk: Any, user: str) -> None:
    texts = [f"{user} keeps note {n}." for n in range(3)]
    block = {"user_id": user, "session_id": "s", "source": "bulk"}
    await sdk.ingest_batch_async([{**block, "content": text} for text in texts])
    listed = [one async for one in sdk.iterate_users(prefix=user, sort="user_id", page_size=1)]
    assert [(one.user_id, one.counts.blocks) for one in listed] == [(user, 3)]
    assert [one.blocks for one in (await sdk.list_sessions(user)).sessions] == [3]
    assert (await sdk.list_sessions(user, prefix="no")).sessions == []
    assert (await sdk.list_terms(user, limit=1)).blocks == 3
    filters = {"source": "bulk"}
    found = [one async for one in sdk.iterate_blocks(user, filters=filters, page_size=2)]
    assert [one.content for one in found] == texts[::-1]
    assert (await sdk.cancel_jobs(user_id=user, dry_run=True)).matched is not None
    assert (await sdk.retry_jobs(user_id=user, dry_run=True)).matched == 0
    ids = [found[0].id, found[2].id]
    dry = await sdk.delete_blocks(user_id=user, ids=ids, dry_run=True)
    done = await sdk.delete_blocks(user_id=user, ids=ids, confirmation=dry.confirmation)
    assert (dry.matched, done.deleted, done.more) == (2, 2, False)
    assert [one.content async for one in sdk.iterate_blocks(user)] == [texts[1]]


async def test_keys_create_keys(sdk: Any, user: str) -> None:
    made = await sdk.create_key(["read"], user_id=user, name="of a test")
    assert made.key.startswith(made.prefix)
    listed = [key.prefix async for key in sdk.iterate_keys(user_id=user, page_size=1)]
    assert listed == [made.prefix]
    assert (await sdk.revoke_key(made.prefix)).revoked_at is not None
    assert "admin" in (await sdk.current_key()).permissions


async def test_a_whole_user_out_in_and_away(sdk: Any, user: str) -> None:
    for content in ("One of two.", "Two of two."):
        await sdk.ingest_block({"user_id": user, "content": content})
    lines = [line async for line in sdk.export_user(user)]
    copy = f"{user}-copy"
    imported = await sdk.import_user(copy, io.BytesIO(b"".join(lines)))
    assert imported.stored["blocks"] == 2
    assert {block.content async for block in sdk.iterate_blocks(copy)} == {
        "One of two.",
        "Two of two.",
    }
    receipt = await sdk.erase_user(user, idempotency_key=user)
    assert receipt.counts["blocks"] == 2
    assert await sdk.erase_user(user, idempotency_key=user) == receipt
    assert [block async for block in sdk.iterate_blocks(user)] == []


async def test_an_export_streams_into_an_import(service: KeyedService, key: str, user: str) -> None:
    async with AsyncMemoryClient(service.stack.base_url, api_key=key) as sdk:
        await sdk.ingest_block({"user_id": user, "content": "Through a pipe."})
        imported = await sdk.import_user(f"{user}-2", sdk.export_user(user))
        assert imported.stored["blocks"] == 1


async def test_the_service_itself(sdk: Any, user: str) -> None:
    await sdk.check_ready()
    assert (await sdk.health()).status == "ok"
    assert (await sdk.usage(user_id=user)).total.calls == 0
    assert (await sdk.cache_stats()).connected
    assert "luma_jobs" in await sdk.metrics()
    history = await sdk.metrics_history(resolution="hour")
    assert len(history.times) == len(history.series["requests"])
    assert await sdk.providers() == []
    assert "DATABASE_URL" in [setting.name for setting in await sdk.settings()]


@pytest.mark.parametrize("odd", ["..", ".", "a b/c?d#e%2F", "ü\U0001f989", "x" * 256])
async def test_odd_users_are_users(sdk: Any, odd: str) -> None:
    block = {"user_id": odd, "content": "Odd, and yet somebody."}
    accepted = await sdk.ingest_block_async(block)
    page = await sdk.list_blocks(odd)
    assert [entry.id for entry in page.blocks] == [accepted.id]
    assert (await sdk.erase_user(odd)).counts["blocks"] == 1


async def test_errors_are_of_their_kind(
    service: KeyedService, kind: str, key: str, user: str
) -> None:
    url, block = service.stack.base_url, {"user_id": user, "content": "x"}
    async with connected(kind, url, api_key="lmk_wrong" + "x" * 40) as stranger:
        assert isinstance(await failure(stranger.list_blocks(user)), Unauthenticated)
    async with connected(kind, url, api_key=await service.key("read")) as reader:
        assert isinstance(await failure(reader.ingest_block_async(block)), Forbidden)
    async with connected(kind, url, api_key=key) as sdk:
        await sdk.ingest_block_async(block, idempotency_key="one")
        other = {**block, "content": "y"}
        reused = await failure(sdk.ingest_block_async(other, idempotency_key="one"))
        assert (type(reused), reused.code) == (Invalid, "idempotency_key_reused")
        blank = await failure(sdk.ingest_block_async({**block, "content": " "}))
        assert (type(blank), blank.code) == (Invalid, "invalid_request")
        assert isinstance(blank, Invalid)
        assert blank.field == "content"
        surrogate = await failure(sdk.ingest_block_async({**block, "content": "\ud800"}))
        assert (type(surrogate), surrogate.code) == (Invalid, "malformed_json")
    async with connected(kind, f"{url}/elsewhere", api_key=key) as lost:
        assert (await failure(lost.job_stats())).code in ("credentials_invalid", "route_not_found")


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://x", "http://", "http://u:p@x", "http://x?y"]
)
async def test_what_is_no_address_is_refused_at_once(kind: str, url: str) -> None:
    with pytest.raises(SetupError) as caught:
        async with connected(kind, url):
            pass
    assert caught.value.code == "wrong_url"
    assert "u:p" not in str(caught.value)


async def test_a_request_with_a_lost_response_is_retried_and_applied_once(
    service: KeyedService, kind: str, key: str, user: str
) -> None:
    port = urlsplit(service.stack.base_url).port
    assert port
    async with proxied(port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        async with connected(kind, url, api_key=key) as sdk:
            proxy.responses_lost = 2
            accepted = await sdk.ingest_block_async({"user_id": user, "content": "Once only."})
            assert proxy.responses_lost == 0
            assert [block.id async for block in sdk.iterate_blocks(user)] == [accepted.id]
            proxy.responses_lost = 1
            await sdk.delete_block(accepted.id, user_id=user)
            proxy.responses_lost = 1
            assert (await sdk.erase_user(user)).counts["blocks"] == 0
        async with connected(kind, url, api_key=key, retries=NO_RETRIES) as sdk:
            proxy.responses_lost = 1
            assert (await failure(sdk.job_stats())).code == "connection_lost"
        async with connected(kind, url, api_key=key) as sdk:
            proxy.responses_lost = 1
            empty = io.BytesIO(b"")
            assert (await failure(sdk.import_user(user, empty))).code == "connection_lost"


async def test_waiting_ends(kind: str, user: str) -> None:
    quick = Retries(attempts_max=2, first_pause_seconds=0.01)
    async with hanging_server() as port:
        url = f"http://127.0.0.1:{port}"
        async with connected(kind, url, timeout_seconds=0.2, retries=quick) as sdk:
            late = await failure(sdk.list_blocks(user))
            assert (type(late), late.code) == (UnavailableError, "service_timeout")
    async with connected(kind, url, retries=quick) as sdk:
        gone = await failure(sdk.ingest_block_async({"user_id": user, "content": "x"}))
        assert (type(gone), gone.code) == (UnavailableError, "service_unreachable")


async def test_examples_print_the_output_of_the_page(
    service: KeyedService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEMORY_API_KEY", await service.key("ingest", "read", "admin"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    try:
        for example in EXAMPLES:
            code = example.replace("http://127.0.0.1:8080", service.stack.base_url)
            printed = await asyncio.to_thread(run, code, names)
            assert printed == PROMISED.findall(example), example
    finally:
        if isinstance(left := names.get("memory"), MemoryClient):
            left.close()
    assert len(EXAMPLES) > 8


async def test_examples_work_with_the_service_of_the_quick_start(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a key and with default settings, where no relations are detected."""
    monkeypatch.delenv("MEMORY_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    try:
        for example in EXAMPLES:
            code = example.replace("http://127.0.0.1:8080", stack.base_url)
            printed = await asyncio.to_thread(run, code, names)
            promised = [] if "list_block_relations" in example else PROMISED.findall(example)
            assert printed == promised, example
    finally:
        if isinstance(left := names.get("memory"), MemoryClient):
            left.close()


def run(code: str, names: dict[str, object]) -> list[str]:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(code, "docs/sdk.md", "exec"), names)
    return output.getvalue().splitlines()
