"""The whole service against a model of it: any order of what three owners do, over real HTTP.

A worker enriches meanwhile. After every step the API must match the model: a written block is
readable at once, found by its terms, current in contexts, gone once deleted, and never visible to
another user. The same user id exists in two projects.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.servers import Servers

from luma_memory.client import (
    BlockBody,
    Invalid,
    LumaMemoryError,
    MemoryClient,
    NotFound,
    PreconditionFailed,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
# No two have a stem in common.
WORDS = ["lantern", "copper", "violin", "glacier", "pepper", "harbour", "meadow", "falcon"]
OWNERS = ["ada", "bea", "ada elsewhere"]  # the last one in another project
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
owners = st.sampled_from(OWNERS)
picks = st.integers(min_value=0)
ALL = 200


@dataclass
class Entry:
    """A block as it should be read."""

    id: UUID
    content: str
    key: str
    occurred_at: datetime
    speaker: str | None = None
    revision: int = 1
    first_content: str = ""  # the content it was sent with first

    def has(self, word: str) -> bool:
        return word in self.content.split()


@dataclass
class Owner:
    client: MemoryClient
    user_id: str
    blocks: list[Entry] = field(default_factory=list)  # in the order of their birth
    deleted: list[Entry] = field(default_factory=list)

    def pick(self, number: int) -> Entry:
        return self.blocks[number % len(self.blocks)]


class Machine(RuleBasedStateMachine):
    """Steps are requests; each checks its response."""

    projects: ClassVar[dict[str, MemoryClient]]

    def __init__(self) -> None:
        super().__init__()
        self.numbers = count()

    @initialize()
    def three_owners(self) -> None:
        name = str(uuid4())
        here, elsewhere = self.projects["here"], self.projects["elsewhere"]
        self.owners = {
            "ada": Owner(here, f"ada/{name}"),
            "bea": Owner(here, f"bea {name}"),
            "ada elsewhere": Owner(elsewhere, f"ada/{name}"),
        }

    @rule(owner=owners, content=texts, wait=st.booleans())
    def create(self, owner: str, content: str, wait: bool) -> None:
        here, number = self.owners[owner], next(self.numbers)
        key, when = f"key-{number}", datetime(2026, 3, 4, tzinfo=UTC) + timedelta(hours=number)
        sent = {"user_id": here.user_id, "content": content, "occurred_at": when}
        entry = Entry(UUID(int=0), content, key, when, first_content=content)
        if wait:
            block = here.client.ingest_block(sent, idempotency_key=key)
            entry.id = block.id
            check(block, entry)
        else:
            entry.id = here.client.ingest_block_async(sent, idempotency_key=key).id
        assert entry.id not in [other.id for each in self.owners.values() for other in each.blocks]
        here.blocks.append(entry)

    @rule(owner=owners, number=picks, other=st.booleans())
    def send_again(self, owner: str, number: int, other: bool) -> None:
        """Also after an edit or a deletion; nothing is stored, and nothing comes back."""
        here = self.owners[owner]
        if not (sent := here.blocks + here.deleted):
            return
        entry = sent[number % len(sent)]
        content = entry.first_content + " again" if other else entry.first_content
        body = {"user_id": here.user_id, "content": content, "occurred_at": entry.occurred_at}

        def again() -> UUID:
            return here.client.ingest_block_async(body, idempotency_key=entry.key).id

        if other:
            refused(again, Invalid, "idempotency_key_reused")
        else:
            assert again() == entry.id

    @rule(owner=owners, number=picks, content=texts | st.none(), speaker=st.sampled_from(["A", ""]))
    def edit(self, owner: str, number: int, content: str | None, speaker: str | None) -> None:
        here = self.owners[owner]
        if not here.blocks:
            return
        entry, key = here.pick(number), f"edit-{next(self.numbers)}"
        if content is None:
            content, speaker = entry.content, entry.speaker
        speaker = speaker or None
        changes = {"content": content, "speaker": speaker}

        def change(revision: int) -> BlockBody:
            return here.client.edit_block(
                entry.id,
                changes,
                user_id=here.user_id,
                revision=revision,
                idempotency_key=key,
            )

        refused(lambda: change(entry.revision + 1), PreconditionFailed, "revision_mismatch")
        before = entry.revision
        block = change(before)
        is_change = (content, speaker) != (entry.content, entry.speaker)
        entry.content, entry.speaker = content, speaker
        entry.revision += is_change
        check(block, entry)
        check(change(before), entry)  # the same request: the first answer

    @rule(owner=owners, number=picks)
    def delete(self, owner: str, number: int) -> None:
        here = self.owners[owner]
        if not here.blocks:
            return
        entry = here.pick(number)
        here.client.delete_block(entry.id, user_id=here.user_id, revision=entry.revision)
        here.blocks.remove(entry)
        here.deleted.append(entry)
        refused(
            lambda: here.client.get_block(entry.id, user_id=here.user_id),
            NotFound,
            "block_not_found",
        )

    @rule(owner=owners, other=owners, number=picks)
    def read(self, owner: str, other: str, number: int) -> None:
        here, there = self.owners[owner], self.owners[other]
        if not there.blocks:
            return
        entry = there.pick(number)
        if owner == other:
            check(here.client.get_block(entry.id, user_id=here.user_id), entry)
            return
        for call in (
            lambda: here.client.get_block(entry.id, user_id=here.user_id),
            lambda: here.client.edit_block(entry.id, {"content": "mine"}, user_id=here.user_id),
            lambda: here.client.delete_block(entry.id, user_id=here.user_id),
            lambda: here.client.list_revisions(entry.id, user_id=here.user_id),
        ):
            refused(call, NotFound, "block_not_found")

    @rule(owner=owners, page_size=st.sampled_from([1, 3, 200]))
    def list_all(self, owner: str, page_size: int) -> None:
        here = self.owners[owner]
        read = [*here.client.iterate_blocks(here.user_id, page_size=page_size)]
        assert [block.id for block in read] == [entry.id for entry in reversed(here.blocks)]
        for block, entry in zip(read, reversed(here.blocks), strict=True):
            check(block, entry)

    @rule(owner=owners, word=st.sampled_from(WORDS))
    def search(self, owner: str, word: str) -> None:
        here = self.owners[owner]
        having = {entry.id for entry in here.blocks if entry.has(word)}
        by_words = here.client.search(word, user_id=here.user_id, ranking="lexical", limit=ALL)
        assert {hit.block.id for hit in by_words.results} == having
        response = here.client.search(word, user_id=here.user_id, limit=ALL)
        assert having <= {hit.block.id for hit in response.results}
        known = {entry.id: entry for entry in here.blocks}
        for hit in (*by_words.results, *response.results):
            check(hit.block, known[hit.block.id])

    @rule(owner=owners, word=st.sampled_from(WORDS))
    def context(self, owner: str, word: str) -> None:
        here = self.owners[owner]
        known = {entry.id: entry for entry in here.blocks}
        for _ in range(2):  # computed, then perhaps from the cache
            response = here.client.get_context(word, user_id=here.user_id)
            assert {citation.block_id for citation in response.citations} <= known.keys()
            for block in response.blocks:
                assert block.content == known[block.id].content
            words_found = {word for word in WORDS if word in response.text}
            assert words_found <= {word for entry in here.blocks for word in entry.content.split()}

    @rule(owner=owners)
    def export(self, owner: str) -> None:
        here = self.owners[owner]
        lines = [json.loads(line) for line in here.client.export_user(here.user_id)]
        rows = [line["row"] for line in lines if line["kind"] == "blocks"]
        assert {row["id"]: row["content"] for row in rows} == {
            str(entry.id): entry.content for entry in here.blocks
        }

    @rule(owner=owners, number=picks)
    def erase(self, owner: str, number: int) -> None:
        here = self.owners[owner]
        if number % 3:  # or there would never be much
            return
        receipt = here.client.erase_user(here.user_id)
        assert receipt.counts["blocks"] == len(here.blocks)
        here.blocks, here.deleted = [], []

    def teardown(self) -> None:
        for owner in getattr(self, "owners", {}):
            self.list_all(owner, page_size=ALL)


def check(block: BlockBody, entry: Entry) -> None:
    """The block as the model has it; enrichment may have come by or not."""
    assert (block.id, block.content, block.speaker) == (entry.id, entry.content, entry.speaker)
    assert (block.revision, block.occurred_at) == (entry.revision, entry.occurred_at)
    assert block.status in ("pending_enrichment", "active")
    assert block.superseded_by is None


def refused(call: Callable[[], Any], kind: type[LumaMemoryError], code: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.code == code


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(servers: Servers) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(servers) as running:
        yield running


@pytest.mark.parametrize(
    ("examples", "steps"),
    [(15, 40), pytest.param(200, 60, marks=pytest.mark.slow)],
)
@pytest.mark.timeout(1_200)  # a failure is made smaller for five minutes
async def test_the_api_conforms_to_its_model(
    service: KeyedService, examples: int, steps: int
) -> None:
    url = service.stack.base_url
    here = await service.key("ingest", "read", "admin")
    elsewhere = await service.key("ingest", "read", "admin", project_id="elsewhere")
    with MemoryClient(url, api_key=here) as one, MemoryClient(url, api_key=elsewhere) as two:
        Machine.projects = {"here": one, "elsewhere": two}
        await asyncio.to_thread(
            run_state_machine_as_test,
            Machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
