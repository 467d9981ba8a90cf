"""Relations and supersession on a real database, with a model (a scripted one) and without."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.fakes.openai_server import Exchange, FakeOpenAI, completion, error, well
from tests.support.providers import model_target, provided
from tests.support.running import Plan, ingest, working

from luma_memory.domain.clock import SystemClock
from luma_memory.domain.errors import NotFound, ProviderUnavailable
from luma_memory.domain.relation import (
    Candidate,
    Finding,
    Findings,
    Relation,
    RelationBlock,
    RelationRequest,
)
from luma_memory.domain.scope import Scope
from luma_memory.domain.summary import SummaryRequest
from luma_memory.domain.weeks import Week
from luma_memory.pipeline.knowledge import relate
from luma_memory.pipeline.knowledge.relate import RelationBacklog, Relations
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.ports.models import Relator
from luma_memory.postgres.database import Database
from luma_memory.providers.breaker import Breaker
from luma_memory.providers.completion.local_relations import LocalRelator
from luma_memory.providers.completion.relations import ModelRelator
from luma_memory.providers.model_provider import Account, ModelProvider
from luma_memory.store.archive import PostgresArchive
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.circuits import PostgresCircuits
from luma_memory.store.edits import PostgresBlockEditor
from luma_memory.store.erasures import PostgresEraserStore
from luma_memory.store.relations import PostgresRelationStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.telemetry.events import JobCompleted, JobLost, RelationsLimited, RelationsRefused
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.models import WordEmbedder
from luma_memory.testing.sample_blocks import new_block

ADA = Scope("default", "ada")
JANUARY = datetime(2026, 1, 5, tzinfo=UTC)
MONTH = timedelta(days=30)


class ScriptedRelator:
    """A relator whose findings for each request are set by a test."""

    name = "says-1"

    def __init__(
        self,
        say: Callable[[RelationRequest], Sequence[Finding]],
        before: Callable[[RelationRequest], Awaitable[Any]] | None = None,
    ) -> None:
        self._say = say
        self._before = before
        self.requests: list[RelationRequest] = []

    async def relate(self, request: RelationRequest) -> Findings:
        self.requests.append(request)
        if self._before is not None:
            await self._before(request)
        return Findings(self._say(request))

    async def close(self) -> None:
        return


def all_supersede(request: RelationRequest, *, confidence: float = 0.9) -> Sequence[Finding]:
    """Every candidate supersedes the block: the wrong way round for some, whichever came first."""
    return [
        Finding(n, "supersedes", False, confidence, request.block.content, other.block.content)
        for n, other in enumerate(request.candidates, 1)
    ]


async def related(
    database: Database, relator: Relator, *texts: tuple[str, datetime], **plan: Any
) -> list[UUID]:
    """Ada's blocks one after the other, each related before the next comes."""
    ids = []
    async with working(database, Plan(relator=relator, **plan)) as worker:
        for number, (text, at) in enumerate(texts, 1):
            block = new_block(text, user_id="ada", speaker="Ada", occurred_at=at)
            (accepted,) = await ingest(database, block)
            ids.append(accepted.id)
            await worker.events.wait_for(JobCompleted, count=2 * number)
        assert worker.bugs == []
    return ids


async def superseded(database: Database, *ids: UUID) -> list[UUID | None]:
    blocks = await PostgresBlockStore(database, attempts_max=3).read([(ADA, key) for key in ids])
    return [block.superseded_by if block else None for block in blocks]


async def found(
    database: Database, query: str, *, embedder: Any = None, as_of: datetime | None = None
) -> list[UUID]:
    recall = Recall(
        PostgresSearchStore(database),
        PostgresBlockStore(database, attempts_max=3),
        embedder=embedder or WordEmbedder(),
        emit=EventLog(),
    )
    result = await recall.search(SearchRequest(scope=ADA, query=query, limit=10, as_of=as_of))
    return [hit.block.id for hit in result.hits]


async def relations(database: Database, block_id: UUID | None = None) -> Sequence[Relation]:
    page = await Relations(PostgresRelationStore(database)).page(
        ADA, limit=100, before=None, block_id=block_id
    )
    return page.relations


async def version(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("SELECT version FROM memory_users WHERE user_id = 'ada'"))


BERLIN_LISBON = {
    "en": ("I live in Berlin.", "I moved to Lisbon.", "Where do I live?"),
    "de": ("Ich wohne in Berlin.", "Ich bin nach Lissabon gezogen.", "Wo wohne ich?"),
    "es": ("Vivo en Berlín.", "Me mudé a Lisboa.", "¿Dónde vivo?"),
    "pt": ("Moro em Berlim.", "Mudei-me para Lisboa.", "Onde moro?"),
    "ja": (
        "私はベルリンに住んでいます。",
        "私はリスボンに引っ越しました。",
        "私はどこに住んでいますか。",
    ),
}


async def as_a_model(exchange: Exchange) -> None:
    """A model that reports relations for blocks about a move, and a valid result for all else."""
    if exchange.call.path.endswith("/embeddings"):
        await _well(exchange)
        return
    message = json.loads(exchange.call.body["messages"][-1]["content"])
    if "candidates" not in message:
        await _well(exchange)
        return
    texts = [
        {
            "candidate": candidate["n"],
            "type": "supersedes",
            "from_block": True,
            "confidence": 0.95,
            "block_quote": message["block"]["text"].rstrip(".。"),
            "candidate_quote": candidate["text"],
        }
        for candidate in message["candidates"]
    ]
    made_up = {**texts[0], "candidate": 99} if texts else None
    unstated = {**texts[0], "type": "causes", "block_quote": "never said"} if texts else None
    await completion({"relations": [one for one in (*texts, made_up, unstated) if one]})(exchange)


async def _well(exchange: Exchange) -> None:
    await well()(exchange)


@pytest.mark.parametrize("language", BERLIN_LISBON)
async def test_recall_returns_what_is_true_now_and_as_of_a_time_what_was(
    language: str, database: Database
) -> None:
    was, now, question = BERLIN_LISBON[language]
    with FakeOpenAI() as server:
        server.always(as_a_model)
        relator = ModelRelator(
            [model_target("gpt-test", api_key="k", base_url=server.base_url, timeout_seconds=5.0)]
        )
        async with provided(database, server) as plan:
            plan.relator = relator
            async with working(database, plan) as worker:
                ids = []
                for count, (text, at) in enumerate(((was, JANUARY), (now, JANUARY + 2 * MONTH)), 1):
                    block = new_block(text, user_id="ada", speaker="Ada", occurred_at=at)
                    (accepted,) = await ingest(database, block)
                    ids.append(accepted.id)
                    await worker.events.wait_for(JobCompleted, count=2 * count)
                # One made up, one not quoted.
                assert [event.count for event in worker.events.of(RelationsRefused)] == [2]
            old, new = ids
            embedder = plan.embedder
            assert await found(database, question, embedder=embedder) == [new]
            back = JANUARY + MONTH
            assert await found(database, question, embedder=embedder, as_of=back) == [old]
            later = JANUARY + 3 * MONTH
            assert await found(database, question, embedder=embedder, as_of=later) == [new]
        await relator.close()
        requests = [call for call in server.calls if call.path.endswith("/chat/completions")]
        # Two blocks: one enrichment each, and one relation call for all candidates of the second.
        assert len(requests) == 3
    (relation,) = await relations(database, old)
    assert relation == (await relations(database, new))[0]
    assert (relation.source_id, relation.target_id, relation.type) == (new, old, "supersedes")
    assert relation.model == "openai/gpt-test+relate_v1"
    assert now.rstrip(".。") in (relation.evidence or "")


async def test_recall_lifts_what_the_best_is_related_to_and_folds_repetitions(
    database: Database, connection: asyncpg.Connection
) -> None:
    texts = ("The heron stood in the river.", "It rained all day.", "The heron stood in the river!")
    heron, rain, again, other = await ingest(
        database,
        *(new_block(text, user_id="ada", occurred_at=JANUARY) for text in texts),
        new_block("The heron of somebody else.", user_id="bob"),
    )
    for source, target, kind, status in (
        (rain.id, heron.id, "follows", "accepted"),
        (again.id, heron.id, "duplicates", "accepted"),
        (rain.id, heron.id, "supports", "rejected"),
    ):
        await connection.execute(
            "INSERT INTO memory_relations (id, user_id, source_id, target_id, type, confidence,"
            " model, status) VALUES (gen_random_uuid(), 'ada', $1, $2, $3, 0.9, 'm', $4)",
            source,
            target,
            kind,
            status,
        )
    recall = Recall(
        PostgresSearchStore(database),
        PostgresBlockStore(database, attempts_max=3),
        embedder=None,
        relations=PostgresRelationStore(database),
        emit=EventLog(),
    )
    plain, related = [
        (
            await recall.search(
                SearchRequest(
                    scope=ADA,
                    query="heron stood river rain",
                    limit=2,
                    use_relations=use,
                    explain=True,
                )
            )
        ).hits
        for use in (False, True)
    ]
    shown = {hit.block.id: hit for hit in related}
    assert set(shown) < {heron.id, rain.id, again.id}
    best = related[0]
    (folded,) = {heron.id, again.id} - {best.block.id}
    assert best.explanation["folded"] == str(folded)
    lifted = shown[rain.id].explanation
    before = {hit.block.id: hit for hit in plain}
    assert {hit.block.id for hit in plain} == {heron.id, again.id}
    assert lifted["relation"] == "follows"
    assert lifted["relation_to"] == str(heron.id)
    assert isinstance(lifted["relation_gain"], float)
    assert lifted["relation_gain"] > 0
    assert before[best.block.id].explanation["relation_gain"] == 0
    assert other.id not in shown


async def test_english_updates_are_found_without_a_model(database: Database) -> None:
    old, new = await related(
        database,
        LocalRelator(),
        ("I live in Berlin.", JANUARY),
        ("I moved to Lisbon.", JANUARY + MONTH),
    )
    assert await superseded(database, old, new) == [new, None]
    assert old not in await found(database, "Where do I live, in Berlin or in Lisbon?")
    assert await found(database, "Berlin", as_of=JANUARY + MONTH / 2) == [old]


async def test_what_happened_later_supersedes_whichever_arrived_first(
    database: Database,
) -> None:
    """Arrived last, happened first; both sides claim it; three in a chain; no cycle."""
    lisbon, berlin, porto = await related(
        database,
        ScriptedRelator(all_supersede),
        ("Lisbon it is.", JANUARY + MONTH),
        ("Berlin it is.", JANUARY),
        ("Porto it is.", JANUARY + 2 * MONTH),
    )
    assert await superseded(database, berlin, lisbon, porto) == [lisbon, porto, None]
    for month, there in ((0.5, berlin), (1.5, lisbon), (2.5, porto)):
        assert await found(database, "it is", as_of=JANUARY + month * MONTH) == [there]
    assert await found(database, "it is") == [porto]


async def test_equal_times_have_one_outcome(database: Database) -> None:
    first, second = await related(
        database,
        ScriptedRelator(all_supersede),
        ("One of them.", JANUARY),
        ("Two of them.", JANUARY),
    )
    assert await superseded(database, first, second) == [second, None]


async def test_rejecting_accepting_deleting_and_editing_bring_it_back(
    database: Database, connection: asyncpg.Connection
) -> None:
    old, new = await related(
        database,
        ScriptedRelator(all_supersede),
        ("Berlin it is.", JANUARY),
        ("Lisbon it is.", JANUARY + MONTH),
    )
    (relation,) = await relations(database)
    decide = Relations(PostgresRelationStore(database)).decide
    for status, outcome in (("rejected", None), ("accepted", new), ("rejected", None)):
        before = await version(connection)
        decided = await decide(ADA, relation.id, status, decided_by="key x")  # type: ignore[arg-type]
        assert (decided.status, decided.decided_by) == (status, "key x")
        assert await superseded(database, old) == [outcome]
        assert await version(connection) > before
    editor = PostgresBlockEditor(database, attempts_max=3)
    page = await editor.revisions(ADA, old, below=None, limit=9)
    changes = [entry for entry in page.revisions if entry.reason == "supersession"]
    assert [entry.before["superseded_by"] for entry in changes] == [str(new), None, str(new), None]
    assert [entry.changed_by for entry in changes[:3]] == ["key x"] * 3
    # A relation that was rejected is not found again.
    await connection.execute(
        "INSERT INTO memory_jobs (user_id, block_id, job_type)"
        " VALUES ('ada', $1, 'detect_relations')",
        new,
    )
    async with working(database, Plan(relator=ScriptedRelator(all_supersede))) as worker:
        await worker.events.wait_for(JobCompleted)
    assert await superseded(database, old) == [None]

    for user, key in ((ADA, uuid4()), (Scope("default", "bob"), relation.id)):
        with pytest.raises(NotFound):
            await decide(user, key, "accepted", decided_by="key x")
    await decide(ADA, relation.id, "accepted", decided_by="key x")
    assert await superseded(database, old) == [new]
    before = await version(connection)
    assert await editor.delete(ADA, new, revision=None) == "deleted"
    assert await version(connection) > before
    assert await superseded(database, old) == [None]
    assert await relations(database) == []


def _only_the_previous(request: RelationRequest) -> list[Finding]:
    """Findings without the one between the newest and the oldest block."""
    is_second = "Lisbon" in request.block.content
    return [f for f in all_supersede(request) if is_second or "Berlin" not in f.candidate_quote]


async def test_a_link_that_goes_leaves_its_chain_whole(database: Database) -> None:
    berlin, lisbon, porto = await related(
        database,
        # The newest knows only of the one before it.
        ScriptedRelator(_only_the_previous),
        ("Berlin it is.", JANUARY),
        ("Lisbon it is.", JANUARY + MONTH),
        ("Porto it is.", JANUARY + 2 * MONTH),
    )  # fmt: skip
    assert await superseded(database, berlin, lisbon) == [lisbon, porto]
    await PostgresBlockEditor(database, attempts_max=3).delete(ADA, lisbon, revision=None)
    assert await superseded(database, berlin, porto) == [porto, None]
    await PostgresBlockEditor(database, attempts_max=3).delete(ADA, porto, revision=None)
    assert await superseded(database, berlin) == [None]


async def test_unsure_relations_take_nothing_out_of_recall(database: Database) -> None:
    old, _ = await related(
        database,
        ScriptedRelator(lambda request: all_supersede(request, confidence=0.6)),
        ("Berlin it is.", JANUARY),
        ("Lisbon it is.", JANUARY + MONTH),
    )
    assert await superseded(database, old) == [None]
    (relation,) = await relations(database)
    assert relation.confidence == pytest.approx(0.6)
    decide = Relations(PostgresRelationStore(database)).decide
    await decide(ADA, relation.id, "accepted", decided_by="key x")
    assert await superseded(database, old) != [None]


async def test_edits_and_erasures_during_a_detection_void_it(
    database: Database, connection: asyncpg.Connection
) -> None:
    editor = PostgresBlockEditor(database, attempts_max=3)

    async def edit(request: RelationRequest) -> None:
        for candidate in request.candidates:
            other = candidate.block
            assert await editor.edit(
                ADA, other.id, revision=other.revision, changed_by="x",
                changes={"source": "elsewhere"}, content_hash=None, passages=None,
            )  # fmt: skip

    await related(
        database,
        ScriptedRelator(all_supersede, edit),
        ("Berlin it is.", JANUARY),
        ("Lisbon it is.", JANUARY + MONTH),
    )
    assert await relations(database) == []

    erased = []

    async def erase(_request: RelationRequest) -> None:
        eraser = PostgresEraserStore(database)
        swept, last = await eraser.sweep_jobs(ADA)
        erased.append(
            await eraser.erase(
                ADA, erasure_id=uuid4(), key_digest=None, started_at=datetime.now(UTC),
                last_job=last, swept=swept, cached=0,
            )
        )  # fmt: skip

    async with working(database, Plan(relator=ScriptedRelator(all_supersede, erase))) as worker:
        block = new_block("Porto it is.", user_id="ada", occurred_at=JANUARY + 2 * MONTH)
        await ingest(database, block)
        await worker.events.wait_for(JobLost)
    assert erased
    for table in ("users", "blocks", "relations", "rate_limits"):
        left = await connection.fetchval(f"SELECT count(*) FROM memory_{table}")
        assert left == 0, table


async def test_relations_of_foreign_and_invented_blocks_are_not_stored(
    database: Database, connection: asyncpg.Connection
) -> None:
    """Even where an id passes every check in Python: the statement itself knows the scope."""
    (foreign,) = await ingest(database, new_block("Bob's.", user_id="bob"))
    (own,) = await ingest(database, new_block("Ada's.", user_id="ada"))
    job = await connection.fetchval(
        "INSERT INTO memory_jobs (user_id, job_type, status, attempts, locked_by)"
        " VALUES ('ada', 'detect_relations', 'processing', 1, 'w') RETURNING id"
    )
    invented = uuid4()
    row = await connection.fetchrow(
        "SELECT * FROM relate_memory_block('w', $1, 1, 'default', 'ada', $2, $3, $4, $5, $6, $7,"
        " 'm', $8, $9)",
        job,
        [uuid4(), uuid4(), uuid4()],
        [own.id, own.id, own.id],
        [foreign.id, invented, own.id],
        ["supersedes"] * 3,
        [0.9] * 3,
        ["e"] * 3,
        [own.id, foreign.id, invented],
        [1, 1, 1],
    )
    assert row is not None
    assert tuple(row) == (True, 0)


async def test_over_the_limit_detections_wait_and_none_is_dropped(
    database: Database, connection: asyncpg.Connection
) -> None:
    """Rows of the limit that are lost in between do not let more through."""
    relator = ScriptedRelator(lambda _request: [])
    async with working(database, Plan(relator=relator, relation_limit=5)) as worker:
        blocks = [
            new_block(f"Number {n} of the list.", user_id="ada", occurred_at=JANUARY)
            for n in range(12)
        ]
        await ingest(database, *blocks)
        await worker.events.wait_for(JobCompleted, count=12 + 5)
        await connection.execute("DELETE FROM memory_rate_limits WHERE operation NOT LIKE '%:%'")
        await ingest(database, new_block("And one more.", user_id="ada", occurred_at=JANUARY))
        await ingest(database, new_block("Bob's own.", user_id="bob"))
        await ingest(database, new_block("Bob's other.", user_id="bob"))
        await worker.events.wait_for(JobCompleted, count=12 + 5 + 3 + 1)
        (event,) = worker.events.of(RelationsLimited)
        assert event.message().startswith("Rate limit reached")
    assert len([one for one in relator.requests if "Bob" not in one.block.content]) == 5
    waiting = await connection.fetch(
        "SELECT attempts, run_at - now() AS wait FROM memory_jobs WHERE user_id = 'ada'"
        " AND job_type = 'detect_relations' AND status = 'pending' ORDER BY run_at"
    )
    assert len(waiting) == 8
    assert {row["attempts"] for row in waiting} == {0}
    # Five have a place in the next window, the rest in the one after.
    hours = [row["wait"] / timedelta(hours=1) for row in waiting]
    assert all(0.9 < hour < 1.1 for hour in hours[:5])
    assert all(1.9 < hour < 2.2 for hour in hours[5:])


async def test_the_next_model_stands_in_for_one_that_fails(database: Database) -> None:
    """Relations and summaries alike; the one that answered is named, and all calls count."""

    async def reply(exchange: Exchange) -> None:
        if exchange.call.body["model"] == "first":
            await error(500)(exchange)
        elif "candidates" in json.loads(exchange.call.body["messages"][-1]["content"]):
            await as_a_model(exchange)
        else:
            await completion({"text": "T", "highlights": [], "comparison": None})(exchange)

    one, other = (
        RelationBlock(uuid4(), 1, text, JANUARY + n * MONTH, JANUARY)
        for n, text in enumerate(("I live in Berlin.", "I moved to Lisbon."))
    )
    request = RelationRequest(other, [Candidate(one, 0.5, 1.0, is_previous=False)])
    week = Week.beginning(date(2026, 1, 5), "UTC")
    with FakeOpenAI() as server:
        server.always(reply)
        account, clock = Account(api_key="k", base_url=server.base_url), SystemClock()
        provider = ModelProvider(
            account,
            models=("first", "second"),
            timeout_seconds=10.0,
            breaker_of=lambda name: Breaker(PostgresCircuits(database), name, clock=clock),
        )
        relator, summarizer = provider.relator(), provider.summarizer()
        findings = await relator.relate(request)
        draft = await summarizer.summarize(SummaryRequest(week, [], None))
        await relator.close()
        await summarizer.close()
    assert len(findings.relations) == 3
    assert (findings.model, draft.model) == (
        "openai/second+relate_v1",
        "openai/second+summarize_v1",
    )
    for calls in (findings.calls, draft.calls):
        assert [call.model for call in calls] == ["openai/first", "openai/second"]


async def test_a_detection_that_is_tried_again_takes_no_second_place(
    database: Database, connection: asyncpg.Connection
) -> None:
    """The limit is two: one is used by a job that fails once, so that the next one has its own."""
    failures = [ProviderUnavailable("away"), ProviderUnavailable("away")]

    async def fail(_request: RelationRequest) -> None:
        if failures:
            raise failures.pop()

    relator = ScriptedRelator(lambda _request: [], fail)
    async with working(database, Plan(relator=relator, relation_limit=2)) as worker:
        blocks = [
            new_block(f"Number {n}.", user_id="ada", occurred_at=JANUARY + n * MONTH)
            for n in range(4)
        ]
        await ingest(database, *blocks)
        await worker.events.wait_for(JobCompleted, count=4 + 2)
    assert not failures
    assert len(relator.requests) == 4
    assert len({request.block.id for request in relator.requests}) == 2
    used = await connection.fetchval(
        "SELECT sum(count) FROM memory_rate_limits WHERE operation = 'detect_relations'"
    )
    assert used == 2
    # An hour later it is requested and counted again.
    await connection.execute(
        "UPDATE memory_blocks SET related_at = related_at - interval '2 hours';"
        "UPDATE memory_rate_limits SET window_start = window_start - interval '2 hours';"
        "UPDATE memory_jobs SET status = 'processing', locked_by = 'w', attempts = 9,"
        " payload = jsonb_build_object('admitted_at', now() - interval '2 hours')"
        " WHERE job_type = 'detect_relations' AND status = 'completed'"
    )
    jobs = await connection.fetch("SELECT id FROM memory_jobs WHERE locked_by = 'w' ORDER BY id")
    again = [
        await connection.fetchval(
            "SELECT granted FROM admit_memory_relations('w', $1, 9, 1, '1 hour')", job["id"]
        )
        for job in (*jobs, jobs[0])
    ]
    assert again == [True, False, True]


async def test_the_limit_brings_no_erased_user_back(
    database: Database, connection: asyncpg.Connection
) -> None:
    ask = "SELECT granted FROM check_memory_rate_limit('default', $1, 'x', 1, '1 hour')"
    await ingest(database, new_block(user_id="ada"))
    assert [await connection.fetchval(ask, "ada") for _ in range(2)] == [True, False]
    assert await connection.fetchval(ask, "erased") is False
    for table in ("users", "rate_limits"):
        users = await connection.fetch(f"SELECT user_id FROM memory_{table}")
        assert [row["user_id"] for row in users] == ["ada"], table


async def test_blocks_of_before_the_switch_get_their_detections_once(
    database: Database, connection: asyncpg.Connection
) -> None:
    async with working(database) as worker:  # relations are off
        first, *rest = await ingest(
            database,
            new_block("I live in Berlin.", user_id="ada", occurred_at=JANUARY),
            new_block("I moved to Lisbon.", user_id="ada", occurred_at=JANUARY + MONTH),
            *(new_block(f"Bob's {n}.", user_id="bob", occurred_at=JANUARY) for n in range(3)),
        )
        await worker.events.wait_for(JobCompleted, count=5)
    await ingest(database, new_block("Still waiting.", user_id="ada"))

    async def enqueued(*, user_id: str | None = None, is_trial: bool = False) -> int:
        backlog = RelationBacklog(PostgresRelationStore(database), attempts_max=3)
        pages = backlog.enqueue(project_id=None, user_id=user_id, is_trial=is_trial)
        return sum([count async for count in pages])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relate, "BACKLOG_PAGE", 2)
        assert [await enqueued(is_trial=True) for _ in range(2)] == [5, 5]
        assert await enqueued(user_id="ada", is_trial=True) == 2
        assert [await enqueued(user_id="ada") for _ in range(2)] == [2, 0]
        assert [await enqueued() for _ in range(2)] == [3, 0]
    jobs = await connection.fetch(
        "SELECT priority, max_attempts FROM memory_jobs WHERE job_type = 'detect_relations'"
    )
    assert [tuple(job) for job in jobs] == [(-6, 3)] * 5
    async with working(database, Plan(relator=LocalRelator())) as worker:
        await worker.events.wait_for(JobCompleted, count=5 + 2)  # and the one that waited
    assert await superseded(database, first.id) == [rest[0].id]
    assert await enqueued() <= 1  # of what was never compared with anything


async def test_relations_are_exported_imported_and_erased(database: Database) -> None:
    old, new = await related(
        database,
        ScriptedRelator(all_supersede),
        ("Berlin it is.", JANUARY),
        ("Lisbon it is.", JANUARY + MONTH),
    )
    archive, bob = PostgresArchive(database), Scope("default", "bob")
    pages = [page async for page in archive.rows(ADA)]
    for kind, rows in pages:
        await archive.store(bob, kind, [json.loads(row) for row in rows])
    page = await Relations(PostgresRelationStore(database)).page(bob, limit=9, before=None)
    assert [(r.source_id, r.target_id) for r in page.relations] == [(new, old)]
    eraser = PostgresEraserStore(database)
    swept, last = await eraser.sweep_jobs(bob)
    erasure = await eraser.erase(
        bob, erasure_id=uuid4(), key_digest=None, started_at=datetime.now(UTC),
        last_job=last, swept=swept, cached=0,
    )  # fmt: skip
    assert erasure is not None
    assert erasure.counts["relations"] == 1
    assert len(await relations(database)) == 1
