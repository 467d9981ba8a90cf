"""The role of docs/security.md: not the tables' owner, and all the service needs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.running import ingest, working

from luma_memory.domain.clock import SystemClock
from luma_memory.domain.errors import SetupError
from luma_memory.domain.job import JobFilter
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.postgres.database import Database
from luma_memory.postgres.migrator import migrate, schema_is_current
from luma_memory.queue.control import PostgresJobControl
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.queue.upkeep import PostgresQueueUpkeep
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.models import WordEmbedder
from luma_memory.testing.sample_blocks import new_block

pytestmark = every_postgres

GUIDE = Path(__file__).resolve().parents[2] / "docs/security.md"
CAROLINE = Scope("default", "caroline")


def _recipe(role: str) -> str:
    section = GUIDE.read_text(encoding="utf-8").partition("## A database role that")[2]
    found = re.search(r"```sql\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found.group(1).replace("luma_app", role)


@pytest.fixture
async def app_dsn(dsn: str) -> AsyncIterator[str]:
    """The migrated database, as the recipe's role."""
    role = re.sub(r".*/(test_\w+)\?.*", r"app_\1", dsn)
    owner = await asyncpg.connect(dsn)
    await owner.execute(_recipe(role))
    yield dsn.replace("postgres@", f"{role}@")
    await owner.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
    await owner.close()


async def test_the_role_runs_the_service_and_cannot_change_the_schema(app_dsn: str) -> None:
    database = Database(app_dsn, pool_size=4)
    try:
        assert await schema_is_current(database)
        await ingest(database, new_block(user_id="caroline"), new_block(user_id="melanie"))
        async with working(database) as worker:
            await worker.events.wait_for(JobCompleted, count=2)
        recall = Recall(
            PostgresSearchStore(database),
            PostgresBlockStore(database, attempts_max=3),
            embedder=WordEmbedder(),
            emit=EventLog(),
        )
        found = await recall.search(SearchRequest(scope=CAROLINE, query="cat", limit=3))
        assert len(found.hits) == 1
        control = PostgresJobControl(database, attempts_max=3)
        assert len((await control.page(JobFilter(project_id=None), status=None, limit=9)).jobs) == 2
        await control.pause("reembed")
        assert (await PostgresJobQueue(database).stats()).paused == ["reembed"]
        now = SystemClock().now()
        later = now + timedelta(days=1)
        await PostgresQueueUpkeep(database).prune(
            completed_before=later, failed_before=later, limit=9
        )
        await database.execute(
            "SELECT * FROM erase_memory_user(p_project_id => 'default', p_user_id => 'caroline',"
            " p_id => gen_random_uuid(), p_key_digest => NULL, p_started_at => now(),"
            " p_last_job => 0, p_swept => 0, p_cached => 0)"
        )
        with pytest.raises(SetupError, match=r"permission denied|must be owner"):
            await database.execute("DROP TABLE memory_secrets")
    finally:
        await database.close()


async def test_later_migrations_need_no_further_grant(dsn: str, app_dsn: str) -> None:
    owner = Database(dsn, pool_size=2)
    await owner.execute("DROP TABLE memory_job_pauses")
    await owner.execute("DROP FUNCTION get_memory_job_stats")
    await owner.execute("DELETE FROM memory_migrations WHERE version = '0018_operable_queue'")
    await migrate(owner)
    await owner.close()
    database = Database(app_dsn, pool_size=2)
    assert (await PostgresJobQueue(database).stats()).pending == 0
    await database.close()
