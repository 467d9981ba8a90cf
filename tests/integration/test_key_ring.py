"""Keys as several processes of one installation see them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import asyncpg
import pytest

from luma_memory.domain.access import ANONYMOUS, Caller, Permission
from luma_memory.domain.errors import (
    Forbidden,
    Invalid,
    LumaMemoryError,
    NotFound,
    QuotaExceeded,
    StoreUnavailable,
)
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.accounts import key_ring
from luma_memory.pipeline.accounts.key_ring import (
    ATTEMPTS_OF_ALL_PER_MINUTE,
    ATTEMPTS_PER_MINUTE,
    LOOK_UPS_PER_MINUTE,
    KeyRing,
)
from luma_memory.pipeline.accounts.keys import Keys, hash_of
from luma_memory.ports.accounts import StoredKey
from luma_memory.postgres.database import Database
from luma_memory.store.keys import PostgresKeyStore
from luma_memory.testing.moved_clock import MovedClock

ADMIN = "an admin key of twenty-four or more".replace(" ", "-")
GUESS = "lmk_" + "a" * 12 + "_" + "b" * 43
HERE = "192.0.2.1"


class CountingStore(PostgresKeyStore):
    """Counts lookups, and fails them while the test sets it to."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.finds = 0
        self.is_away = False
        self.may_check = asyncio.Event()
        self.may_check.set()

    async def find(self, prefix: str) -> StoredKey | None:
        self.finds += 1
        if self.is_away:
            raise StoreUnavailable("away")
        return await super().find(prefix)

    async def any_exists(self) -> bool:
        await self.may_check.wait()
        return await super().any_exists()


class Desk:
    """A clock, the keys, and rings as several processes have them."""

    def __init__(self, connect: Callable[[], Database]) -> None:
        self.clock = MovedClock()
        self.store = CountingStore(connect())
        self.keys = Keys(self.store, clock=self.clock)

    def ring(
        self,
        *,
        admin_key: str | None = None,
        open_without_keys: bool = False,
        required: bool = True,
    ) -> KeyRing:
        return KeyRing(
            self.store,
            admin_key=admin_key,
            tokens=None,
            open_without_keys=open_without_keys,
            required=required,
            clock=self.clock,
        )

    async def key(self, *permissions: Permission, user_id: str | None = None) -> str:
        _, text = await self.keys.create(
            permissions or ("read",), project_id="shop", user_id=user_id, name="a test's"
        )
        return text


@pytest.fixture
def desk(connect_database: Callable[[], Database]) -> Desk:
    return Desk(connect_database)


async def refusal(ring: KeyRing, credentials: str | None, *, address: str = HERE) -> str:
    with pytest.raises(LumaMemoryError) as refused:
        await ring.caller(credentials, address=address)
    return refused.value.code


async def test_a_key_names_project_user_and_permissions(desk: Desk) -> None:
    text = await desk.key("read", "ingest", user_id="ada")
    caller = await desk.ring().caller(text, address=HERE)
    assert (caller.project_id, caller.user_id) == ("shop", "ada")
    assert caller.permissions == {"read", "ingest"}
    assert caller.scope("ada") == Scope("shop", "ada")
    assert caller.narrowed(None) == "ada"
    with pytest.raises(Forbidden, match="another user"):
        caller.scope("bob")
    with pytest.raises(Forbidden, match="admin"):
        caller.check_may("admin")


async def test_only_a_hash_is_stored(desk: Desk, connection: asyncpg.Connection) -> None:
    text = await desk.key()
    stored = await connection.fetchrow(
        "SELECT k::text AS everything, key_hash FROM memory_api_keys k"
    )
    assert stored is not None
    assert text.rpartition("_")[2] not in stored["everything"]
    assert stored["key_hash"] == hash_of(text)


async def test_bad_and_unknown_and_revoked_keys_are_refused_alike(desk: Desk) -> None:
    text, revoked = await desk.key(), await desk.key()
    await desk.keys.revoke(revoked)
    ring = desk.ring()
    bad = text[:-1] + ("x" if text[-1] != "x" else "y")
    for credentials in (bad, GUESS, revoked, "nonsense", "a.b.c", "", "\udcff"):
        assert await refusal(ring, credentials) == "credentials_invalid", credentials
    assert await refusal(ring, None) == "credentials_missing"


async def test_a_key_is_looked_up_once_in_a_while(desk: Desk) -> None:
    text, ring = await desk.key(), desk.ring()
    await asyncio.gather(*(ring.caller(text, address=HERE) for _ in range(50)))
    desk.clock.move(seconds=19)
    await ring.caller(text, address=HERE)
    assert desk.store.finds == 1
    desk.clock.move(seconds=2)
    await ring.caller(text, address=HERE)
    assert desk.store.finds == 2


async def test_revocation_reaches_every_process_within_a_minute(desk: Desk) -> None:
    text, rings = await desk.key(), [desk.ring() for _ in range(3)]
    for ring in rings:
        await ring.caller(text, address=HERE)
    await desk.keys.revoke(text[:16])
    desk.clock.move(seconds=21)
    for ring in rings:
        assert await refusal(ring, text) == "credentials_invalid"


async def test_a_process_without_its_database_trusts_a_key_for_less_than_a_minute(
    desk: Desk,
) -> None:
    text, ring = await desk.key(), desk.ring()
    await ring.caller(text, address=HERE)
    desk.store.is_away = True
    desk.clock.move(seconds=45)
    await asyncio.gather(*(ring.caller(text, address=HERE) for _ in range(50)))
    assert desk.store.finds <= 3, "a database that is away is not asked for every request"
    desk.clock.move(seconds=10)
    assert await refusal(ring, text) == "database_unavailable"


async def test_guessing_is_limited_by_address(desk: Desk) -> None:
    ring = desk.ring()
    for _ in range(ATTEMPTS_PER_MINUTE):
        assert await refusal(ring, GUESS) == "credentials_invalid"
    with pytest.raises(QuotaExceeded) as limited:
        await ring.caller(GUESS, address=HERE)
    assert limited.value.code == "too_many_attempts"
    assert 0 < limited.value.retry_after_seconds <= 3
    text = await desk.key()
    assert (await ring.caller(text, address=HERE)).project_id == "shop", "a good key goes on"
    assert await refusal(ring, GUESS, address="192.0.2.2") == "credentials_invalid"
    desk.clock.move(seconds=4)
    assert await refusal(ring, GUESS) == "credentials_invalid"


async def test_guesses_at_a_known_prefix_are_limited_and_its_owner_is_not(desk: Desk) -> None:
    text, ring = await desk.key(), desk.ring()
    await ring.caller(text, address=HERE)
    guess = text[:17] + "b" * 43
    codes = [await refusal(ring, guess) for _ in range(ATTEMPTS_PER_MINUTE + 1)]
    assert codes == ["credentials_invalid"] * ATTEMPTS_PER_MINUTE + ["too_many_attempts"]
    assert (await ring.caller(text, address=HERE)).project_id == "shop"


async def test_a_thousand_guesses_at_once_are_one_limit(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine the last of a thousand lookups takes longer than a request may wait.
    monkeypatch.setattr(key_ring, "FIRST_LOOK_UP_SECONDS", 60.0)
    ring = desk.ring()
    guesses = [f"lmk_{n:012d}_".translate(str.maketrans("0189", "abcd")) for n in range(1_000)]
    codes = await asyncio.gather(*(refusal(ring, guess + "b" * 43) for guess in guesses))
    assert codes.count("credentials_invalid") == ATTEMPTS_PER_MINUTE


async def test_guesses_from_many_addresses_are_limited_together(desk: Desk) -> None:
    """A client behind a proxy can name another address in each request."""
    ring, text = desk.ring(), await desk.key()
    codes = [
        await refusal(ring, "lmk_aaaaaaaaaaaa_" + "b" * 43, address=f"192.0.2.{n}")
        for n in range(ATTEMPTS_OF_ALL_PER_MINUTE + 1)
    ]
    assert codes[-1] == "too_many_attempts"
    assert set(codes[:-1]) == {"credentials_invalid"}
    assert (await ring.caller(text, address="192.0.2.1")).project_id


async def test_unknown_keys_cost_the_database_only_so_much(desk: Desk) -> None:
    ring = desk.ring()
    guesses = [f"lmk_{n:012d}_".translate(str.maketrans("0189", "abcd")) for n in range(4_000)]
    # Each from another address, as a large network would.
    codes = [
        await refusal(ring, guess + "b" * 43, address=f"192.0.{n // 250}.{n % 250}")
        for n, guess in enumerate(guesses)
    ]
    assert desk.store.finds == LOOK_UPS_PER_MINUTE
    assert codes.count("credentials_invalid") == ATTEMPTS_OF_ALL_PER_MINUTE


async def test_the_admin_key_is_a_key_of_the_default_project(desk: Desk) -> None:
    ring = desk.ring(admin_key=ADMIN)
    caller = await ring.caller(ADMIN, address=HERE)
    assert (caller.project_id, caller.user_id) == ("default", None)
    caller.check_may("admin")
    assert await refusal(ring, ADMIN + "x") == "credentials_invalid"


async def test_the_api_is_open_until_the_first_key_and_never_again(desk: Desk) -> None:
    ring = desk.ring(open_without_keys=True)
    assert await ring.caller(None, address=HERE) is ANONYMOUS
    text = await desk.key()
    desk.clock.move(seconds=1.5)
    assert await refusal(ring, None) == "credentials_missing"
    await desk.keys.revoke(text)
    for late in (ring, desk.ring(open_without_keys=True)):
        desk.clock.move(seconds=100)
        assert await refusal(late, None) == "credentials_missing"


async def test_no_caller_is_let_in_while_the_first_check_runs(desk: Desk) -> None:
    await desk.key()
    ring = desk.ring(open_without_keys=True)
    desk.store.may_check.clear()
    callers = [asyncio.create_task(refusal(ring, None)) for _ in range(3)]
    await asyncio.sleep(0)  # each has begun
    desk.store.may_check.set()
    assert await asyncio.gather(*callers) == ["credentials_missing"] * 3


async def test_a_disabled_key_ring_reads_nothing(desk: Desk) -> None:
    await desk.key()
    caller: Caller = await desk.ring(required=False).caller("anything", address=HERE)
    assert caller is ANONYMOUS


async def test_the_last_use_is_noted(desk: Desk) -> None:
    used, unused = await desk.key(), await desk.key()
    ring = desk.ring()
    await ring.start()
    await ring.caller(used, address=HERE)
    await ring.close()
    noted: Collection[str] = {
        key.prefix for key in await desk.keys.list(project_id="shop") if key.last_used_at
    }
    assert noted == {used[:16]}
    assert await desk.keys.list(project_id="other") == []
    assert len(await desk.keys.list(project_id=None)) == 2
    assert unused[:16] not in noted


async def test_what_cannot_be_a_key_is_not_made_and_not_revoked(desk: Desk) -> None:
    with pytest.raises(Invalid, match="permission"):
        await desk.keys.create((), project_id="shop")
    with pytest.raises(NotFound):
        await desk.keys.revoke("lmk_unknown")
