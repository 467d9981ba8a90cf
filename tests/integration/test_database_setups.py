"""Databases as others set them up: what works there, and what the error says where it cannot."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from tests.support.pgbouncer import needs_pgbouncer, running_pooler
from tests.support.running import ingest, working
from tests.support.tcp_proxy import proxied

from luma_memory.cli.checks import database_findings
from luma_memory.domain.database_facts import DatabaseFacts
from luma_memory.domain.errors import SetupError, StoreUnavailable
from luma_memory.postgres import migrator
from luma_memory.postgres.database import Database
from luma_memory.postgres.embedded import EmbeddedPostgres
from luma_memory.postgres.inspection import inspect_database
from luma_memory.postgres.migrator import migrate, schema_is_current
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.sample_blocks import new_block

PASSWORD = "canary-password"
ROLE = "setup_role"


@asynccontextmanager
async def _opened(dsn: str) -> AsyncIterator[Database]:
    database = Database(dsn, pool_size=3)
    try:
        yield database
    finally:
        await database.close()


async def _run(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def role(empty_dsn: str) -> AsyncIterator[str]:
    """A role that may create tables and no more, in the empty database."""
    await _run(
        empty_dsn,
        f"DROP ROLE IF EXISTS {ROLE}",
        f"CREATE ROLE {ROLE} LOGIN",
        f"GRANT ALL ON SCHEMA public TO {ROLE}",
    )
    yield ROLE
    await _run(empty_dsn, f"DROP OWNED BY {ROLE} CASCADE", f"DROP ROLE {ROLE}")


async def _works(dsn: str) -> None:
    """Migrate, then accept, enrich and find a block."""
    async with _opened(dsn) as database:
        await migrate(database)
    async with _opened(dsn) as database:
        await ingest(database, new_block(user_id="caroline"))
        async with working(database) as worker:
            await worker.events.wait_for(JobCompleted, count=1)
        row = await database.fetch_row("SELECT count(*) AS found FROM memory_passages")
        assert row is not None
        assert row["found"] == 1


async def test_enrichment_keeps_what_a_plain_table_had(empty_dsn: str) -> None:
    await _run(
        empty_dsn,
        "CREATE TABLE memory_blocks (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id text"
        " NOT NULL, content text NOT NULL, title text, summary text, tags text[],"
        " created_at timestamptz NOT NULL DEFAULT now())",
        "INSERT INTO memory_blocks (user_id, content, title, tags) VALUES"
        " ('caroline', 'Caroline adopted a grey cat.', 'My title', '{mine}')",
        "INSERT INTO memory_blocks (user_id, content, summary) VALUES"
        " ('caroline', 'Melanie walks her dog.', 'My summary')",
        "INSERT INTO memory_blocks (user_id, content) VALUES ('caroline', 'It rains in Porto.')",
    )
    async with _opened(empty_dsn) as database:
        await migrate(database)
        async with working(database) as worker:
            await worker.events.wait_for(JobCompleted, count=3)
        kept = await database.fetch(
            "SELECT before ->> 'title' AS title, before -> 'tags' AS tags,"
            " before ->> 'summary' AS summary FROM memory_block_revisions"
        )
    found = {(row["title"], row["summary"]): row["tags"] for row in kept}
    assert found == {("My title", None): ["mine"], (None, "My summary"): []}


# Where pgvector is


async def test_pgvector_may_be_in_a_schema_outside_the_search_path(empty_dsn: str) -> None:
    await _run(empty_dsn, 'CREATE SCHEMA "My Ext"', 'CREATE EXTENSION vector SCHEMA "My Ext"')
    await _works(empty_dsn)


async def test_a_schema_that_may_not_be_used_is_named(empty_dsn: str, role: str) -> None:
    await _run(empty_dsn, "CREATE SCHEMA ext", "CREATE EXTENSION vector SCHEMA ext")
    async with _opened(empty_dsn.replace("postgres@", f"{role}@")) as database:
        with pytest.raises(SetupError, match=f"GRANT USAGE ON SCHEMA ext TO {role}"):
            await database.open()


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_behind_a_pooler_the_remedy_is_named(empty_dsn: str, mode: str) -> None:
    await _run(empty_dsn, "CREATE SCHEMA ext", "CREATE EXTENSION vector SCHEMA ext")
    async with (
        running_pooler(empty_dsn, mode=mode) as pooler,
        _opened(pooler.address(empty_dsn)) as database,
    ):
        await migrate(database)
        with pytest.raises(SetupError, match="ALTER ROLE postgres SET search_path") as raised:
            await database.open()
    assert raised.value.code == "database_setup"


async def test_a_role_that_may_not_create_the_extension_gets_the_remedy(
    empty_dsn: str, role: str
) -> None:
    async with _opened(empty_dsn.replace("postgres@", f"{role}@")) as database:
        with pytest.raises(SetupError, match=r"CREATE EXTENSION vector;.*as a user who may"):
            await migrate(database)
        findings = {one.subject: one for one in database_findings(await inspect_database(database))}
        assert findings["pgvector"].verdict == "fail"
        assert "CREATE EXTENSION vector" in findings["pgvector"].fix
        await _run(empty_dsn, "CREATE EXTENSION vector")
        await migrate(database)
        findings = {one.subject: one for one in database_findings(await inspect_database(database))}
        assert {one.verdict for one in findings.values()} == {"ok"}


async def test_looking_creates_nothing(empty_dsn: str) -> None:
    async with _opened(empty_dsn) as database:
        assert (await inspect_database(database)).may_have_pgvector
        row = await database.fetch_row(
            "SELECT count(*) AS n FROM pg_extension WHERE extname = 'vector'"
        )
        assert row is not None
        assert row["n"] == 0


async def test_doctor_reports_a_role_without_the_right_to_create_tables(
    empty_dsn: str, role: str
) -> None:
    await _run(empty_dsn, "CREATE EXTENSION vector", f"REVOKE ALL ON SCHEMA public FROM {role}")
    async with _opened(empty_dsn.replace("postgres@", f"{role}@")) as database:
        _, _, schema = database_findings(await inspect_database(database))
        assert "may not create tables in public" in schema.detail
        with pytest.raises(SetupError, match="may not change the schema"):
            await migrate(database)


# Names, encodings, versions


async def test_a_schema_may_have_any_name(empty_dsn: str) -> None:
    name = urlsplit(empty_dsn).path.removeprefix("/")
    await _run(
        empty_dsn,
        'CREATE SCHEMA "My-App"',
        f'ALTER DATABASE {name} SET search_path = "My-App", public',
    )
    await _works(empty_dsn)
    async with _opened(empty_dsn) as database:
        assert await schema_is_current(database)
        erased = await database.fetch_row(
            "SELECT * FROM count_memory_rows('default', 'caroline') LIMIT 1"
        )
        assert erased is not None
    await _run(empty_dsn, 'DROP SCHEMA "My-App" CASCADE')
    async with _opened(empty_dsn) as database:
        assert not await schema_is_current(database)


async def test_a_search_path_without_a_schema_is_refused(empty_dsn: str) -> None:
    await _run(empty_dsn, "CREATE EXTENSION vector")
    async with _opened(f"{empty_dsn}&search_path=nowhere") as database:
        with pytest.raises(SetupError, match=r"No schema of the search.path nowhere"):
            await migrate(database)
        with pytest.raises(SetupError, match="No schema of this user's search_path"):
            await inspect_database(database)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_is_not_in_utf8_is_refused(empty_dsn: str, encoding: str) -> None:
    name = f"{urlsplit(empty_dsn).path.removeprefix('/')}_{encoding.lower()}"
    await _run(
        empty_dsn,
        f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' LOCALE_PROVIDER libc"
        " TEMPLATE template0",
    )
    try:
        address = empty_dsn.replace(urlsplit(empty_dsn).path, f"/{name}", 1)
        async with _opened(address) as database:
            with pytest.raises(SetupError, match=f"UTF8; this one is in {encoding}"):
                await migrate(database)
            server, *_ = database_findings(await inspect_database(database))
            assert (server.verdict, encoding in server.detail) == ("fail", True)
    finally:
        await _run(empty_dsn, f"DROP DATABASE {name} WITH (FORCE)")


async def test_an_unsupported_server_version_is_reported_before_missing_extensions(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = migrator.migration_script()
    future = script.replace("< 160000", "< 990000").replace("EXISTS vector;", "EXISTS no_vector;")
    assert future.count("990000") == 1
    monkeypatch.setattr(migrator, "migration_script", lambda: future)
    async with _opened(empty_dsn) as database:
        with pytest.raises(SetupError, match="PostgreSQL 16 or newer is needed") as raised:
            await migrate(database)
    assert "pgvector" not in str(raised.value)


def test_doctor_reports_an_unsupported_server_version() -> None:
    facts = DatabaseFacts(
        major=15,
        version="15.8",
        encoding="UTF8",
        schema="public",
        may_create_tables=True,
        pgvector=None,
        may_have_pgvector=False,
        schema_current=False,
    )
    server, *_ = database_findings(facts)
    assert (server.verdict, server.fix) == ("fail", "use PostgreSQL 16 or newer")


# Connecting


@asynccontextmanager
async def _over_tcp(dsn: str) -> AsyncIterator[str]:
    """The server over TCP; it has no certificate."""
    where = parse_qs(urlsplit(dsn).query)
    socket = Path(where["host"][0]) / f".s.PGSQL.{where['port'][0]}"
    async with proxied(socket) as proxy:
        yield f"postgresql://postgres@127.0.0.1:{proxy.port}{urlsplit(dsn).path}"


@pytest.mark.parametrize("mode", ["require", "verify-full&sslrootcert=system"])
async def test_a_server_without_tls_is_reported_as_that(dsn: str, mode: str) -> None:
    async with _over_tcp(dsn) as address, _opened(f"{address}?sslmode={mode}") as database:
        with pytest.raises(SetupError, match="offers no TLS, which sslmode") as raised:
            await database.open()
    assert raised.value.code == "database_setup"


async def test_addresses_as_hosted_databases_print_them_connect(dsn: str) -> None:
    words = "sslmode=prefer&channel_binding=require&pgbouncer=true&connect_timeout=15&keepalives=1"
    async with _over_tcp(dsn) as address, _opened(f"{address}?{words}") as database:
        assert await schema_is_current(database)


@pytest.fixture(scope="module")
def asking_server() -> Iterator[str]:
    """A server that asks for passwords."""
    folder = Path(tempfile.mkdtemp(prefix="luma test passwords "))
    server = EmbeddedPostgres(folder, durable=False)
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
async def asking(asking_server: str) -> str:
    """The address of a server that asks the role for its password, without one."""
    connection = await asyncpg.connect(asking_server)
    hba = Path(await connection.fetchval("SHOW hba_file"))
    await asyncio.to_thread(
        hba.write_text, "local all postgres trust\nlocal all app scram-sha-256\n"
    )
    await connection.execute("SELECT pg_reload_conf()")
    if not await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = 'app'"):
        await connection.execute("CREATE ROLE app LOGIN PASSWORD 'right'")
    await connection.close()
    return asking_server.replace("postgres@", "app@")


@pytest.mark.parametrize(("user", "words"), [
    (f"app:{PASSWORD}", "refuses the password"),
    (f"nobody:{PASSWORD}", "does not admit the user"),
])  # fmt: skip
async def test_a_wrong_login_is_reported_as_that(asking: str, user: str, words: str) -> None:
    async with _opened(asking.replace("app@", f"{user}@")) as database:
        with pytest.raises(SetupError, match=words) as raised:
            await database.open()
        assert "migrate" not in str(raised.value)
        assert PASSWORD not in f"{raised.value}{raised.value.__cause__}"


async def test_a_database_that_is_not_there_is_named_as_that(dsn: str) -> None:
    async with _opened(dsn.replace(urlsplit(dsn).path, "/nowhere")) as database:
        with pytest.raises(SetupError, match="does not exist") as raised:
            await database.open()
        assert "migrate" not in str(raised.value)


async def test_a_host_that_has_no_address_is_named_as_that() -> None:
    async with _opened("postgresql://u@host.invalid/db?connect_timeout=5") as database:
        with pytest.raises(StoreUnavailable, match="host of DATABASE_URL"):
            await database.open()
