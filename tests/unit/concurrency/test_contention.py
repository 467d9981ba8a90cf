"""Statements for many owners, one of whom is locked."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import pytest

from luma_memory.concurrency import contention
from luma_memory.concurrency.contention import ContentionAware
from luma_memory.domain.errors import StoreContended


class Rows:
    """Items are texts "owner:rest"; a statement with a locked owner fails."""

    def __init__(self) -> None:
        self.locked: set[str] = set()
        self.hidden: set[str] = set()  # locked, and no row shows it
        self.calls: list[list[str]] = []
        self.called = asyncio.Event()
        self.statements = ContentionAware(
            self.call,
            contended=StoreContended,
            key_of=owner_of,
            locked=self.locked_of,
            items_max=100,
        )

    async def call(self, items: Sequence[str]) -> Sequence[str | Exception]:
        self.calls.append(list(items))
        self.called.set()
        await asyncio.sleep(0)
        if any(owner_of(item) in self.locked | self.hidden for item in items):
            raise StoreContended("locked")
        return [item.upper() for item in items]

    async def locked_of(self, owners: Collection[str]) -> Collection[str]:
        return self.locked & set(owners)


def owner_of(item: str) -> str:
    return item.partition(":")[0]


async def _outcomes(rows: Rows, items: Sequence[str]) -> list[str | BaseException]:
    return await asyncio.gather(*map(rows.statements.submit, items), return_exceptions=True)


@pytest.fixture(autouse=True)
def _short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contention, "WAIT_SECONDS_MAX", 0.05)
    monkeypatch.setattr(contention, "_PAUSE_SECONDS", 0.001)


@pytest.mark.parametrize("shows", [True, False])
async def test_only_the_locked_owner_gets_an_error(shows: bool) -> None:
    rows = Rows()
    (rows.locked if shows else rows.hidden).add("b")
    one, two, three = await _outcomes(rows, ["a:1", "b:2", "c:3"])
    assert (one, three) == ("A:1", "C:3")
    assert isinstance(two, StoreContended)
    await rows.statements.close()


async def test_an_owner_set_apart_no_longer_meets_the_others() -> None:
    rows = Rows()
    rows.locked.add("b")
    await _outcomes(rows, ["a:1", "b:2"])
    rows.calls.clear()
    await _outcomes(rows, ["a:3", "b:4", "c:5"])
    assert ["a:3", "c:5"] in rows.calls
    assert all({owner_of(item) for item in call} in ({"a", "c"}, {"b"}) for call in rows.calls)


async def test_a_lock_that_ends_in_time_costs_nothing_but_the_wait() -> None:
    rows = Rows()
    rows.locked.add("b")
    waiting = asyncio.create_task(rows.statements.submit("b:1"))
    await rows.called.wait()
    await asyncio.sleep(0.01)
    rows.locked.clear()
    assert await waiting == "B:1"


async def test_a_batch_has_each_items_own_outcome_in_order() -> None:
    rows = Rows()
    rows.locked.add("b")
    outcomes = await rows.statements.submit_all(["b:1", "a:2", "b:3", "c:4"])
    kinds = [type(one) if isinstance(one, Exception) else one for one in outcomes]
    assert kinds == [StoreContended, "A:2", StoreContended, "C:4"]
