"""Reads of one scope on a replica, if it shows exactly what the primary shows.

The primary states the scope's mark: its version, which rises with every change that these reads
show, and the time of its last change of the embedding model. The read then runs on the replica in a
transaction of one moment that first reads the same mark there. If the marks are equal, so is
everything that was read, because a version never occurs twice with other contents. A later version,
which the replica shows if the scope has changed since the look-up, counts as well if the primary's
log has it. Otherwise the transaction ends and the primary is read. So no result shows a replica
that lags, has diverged or was promoted, or a user who was erased on the primary. See
docs/adr/0027-read-replica.md.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar, cast

import asyncpg

from luma_memory.domain.errors import LumaMemoryError, SetupError, StoreUnavailable
from luma_memory.domain.known_marks import KnownMark, known_mark, note_mark
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import LookUp, ScopeMark
from luma_memory.postgres.database import Database
from luma_memory.postgres.replica import NO_STANDBY, Admission, Attempt, Replica, is_conflict
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.store.block_lists import PostgresBlockLists
from luma_memory.store.block_selections import PostgresBlockSelections
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.items import PostgresItemStore
from luma_memory.store.relations import PostgresRelationStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.store.snapshots import PostgresSnapshotStore
from luma_memory.store.user_lists import PostgresUserLists
from luma_memory.telemetry.events import Emit, ReplicaRead

StoreT = TypeVar("StoreT")
_SQL = SqlFile(__name__)
# What has expired is decided by a server's clock. The replica's may deviate from the primary's by
# this much.
CLOCK_MICROSECONDS: Final = 500_000


@dataclass(frozen=True, slots=True)
class Read:
    """A method that the replica can serve.

    scope_of: of its arguments; None if they are about more than one scope. of_items: whether they
    are about items, or may be.
    """

    scope_of: Callable[..., Scope | None]
    of_items: Callable[..., bool] = lambda *_values, **_options: False


def _first(scope: Scope, *_values: Any, **_options: Any) -> Scope:
    return scope


def _always(*_values: Any, **_options: Any) -> bool:
    return True


def _scope_of_keys(keys: Sequence[tuple[Scope, Any]]) -> Scope | None:
    scopes = {scope for scope, _ in keys}
    return scopes.pop() if len(scopes) == 1 else None


def _scope_of_choice(choice: Any, **_paging: Any) -> Scope | None:
    scopes = list(choice.scopes)
    return scopes[0] if len(scopes) == 1 else None


def _scope_of_selection(selection: Any, **_paging: Any) -> Scope | None:
    user_id = selection.user_id
    return None if user_id is None else Scope(selection.project_id, user_id)


def _scope_of_user(project_id: str, *, user_id: str | None, **_paging: Any) -> Scope | None:
    return None if user_id is None else Scope(project_id, user_id)


# Not here, and read on the primary: what is not about one scope (it has no version), what a version
# does not cover (time zones, summaries, usage, jobs), and single rows, for which the look-up would
# cost as much.
READS: Final[Mapping[type, Mapping[str, Read]]] = {
    PostgresSearchStore: {
        "scan": Read(_first, lambda _scope, request: request.items is not None),
        "own_speaker": Read(_first),
    },
    PostgresSnapshotStore: {
        "page": Read(_first, lambda _scope, _model, kind, **_paging: kind != "blocks"),
    },
    PostgresBlockStore: {"read": Read(_scope_of_keys, _always)},
    PostgresRelationStore: {"links": Read(_first), "page": Read(_first)},
    PostgresBlockLists: {"page": Read(_scope_of_choice), "groups": Read(_scope_of_user)},
    PostgresBlockSelections: {"page": Read(_scope_of_selection)},
    PostgresItemStore: {
        "page": Read(_first, _always),
        "namespaces": Read(_first, _always),
        "read_by_id": Read(_first, _always),
    },
    PostgresUserLists: {"sessions": Read(_first), "terms": Read(_first)},
}


class ReplicatedStore:
    """Stands for a repository: some of its reads are served by the replica."""

    def __init__(
        self, make: Callable[[Database], Any], database: Database, replica: Replica, emit: Emit
    ) -> None:
        self._database = database
        self._twin = replica.twin_of(database)
        self._here, self._there = make(database), make(self._twin)
        self._replica = replica
        self._emit = emit
        for name, read in READS[type(self._here)].items():
            setattr(self, name, partial(self._read, name, read))
        if isinstance(self._here, PostgresSnapshotStore):
            setattr(self, "look_up", self._look_up)  # noqa: B010 - as the reads above

    def __getattr__(self, name: str) -> Any:
        """What is not listed in READS."""
        return getattr(self._here, name)

    async def _look_up(self, scope: Scope, *values: Any, **options: Any) -> LookUp:
        """Of the primary, which has the log of changes. Its mark serves for later reads as well."""
        requested_at = time.monotonic()
        found: LookUp = await self._here.look_up(scope, *values, **options)
        if found.mark.version:
            note_mark(scope, KnownMark(found.mark, found.read_at, requested_at))
        return found

    async def _read(self, name: str, read: Read, *values: Any, **options: Any) -> Any:
        on_primary, on_replica = getattr(self._here, name), getattr(self._there, name)
        scope = read.scope_of(*values, **options)
        if scope is None:
            return await on_primary(*values, **options)
        outcome = "busy" if self._replica.is_used else "unavailable"
        if not self._replica.view_of(self._database, self._twin):
            outcome = "elsewhere"
        elif self._replica.is_used and not self._replica.is_busy:
            of_items = read.of_items(*values, **options)
            known = known_mark(scope) or await self.look_up_mark(scope)
            outcome, result = "absent", None
            if known is not None:
                work = partial(on_replica, *values, **options)
                outcome, result = await self._attempt(scope, known, work, of_items=of_items)
            if outcome == "used":
                self._emit(ReplicaRead(outcome))
                return result
        self._emit(ReplicaRead(outcome))
        return await on_primary(*values, **options)

    async def look_up_mark(self, scope: Scope) -> KnownMark | None:
        """The scope's mark on the primary; None for a user of whom nothing is stored."""
        statement, requested_at = _SQL["scope_mark"], time.monotonic()
        row = await self._database.fetch_row(statement, scope.project_id, scope.user_id)
        if row is None:
            return None
        mark = ScopeMark(row["version"], row["moved_at"])
        known = KnownMark(mark, _microseconds(row), requested_at)
        note_mark(scope, known)
        return known

    async def _attempt(
        self,
        scope: Scope,
        known: KnownMark,
        work: Callable[[], Awaitable[Any]],
        *,
        of_items: bool,
    ) -> tuple[str, Any]:
        async def read(attempt: Attempt[Any]) -> None:
            async with self._twin.transaction(reads_one_moment=True):
                statement = _SQL["replica_mark"]
                row = await self._twin.fetch_row(
                    statement, scope.project_id, scope.user_id, of_items
                )
                assert row is not None  # its FROM has one row
                admission = self._admission(row, known)
                if admission == "ahead" and await self._was_shown(scope, row["version"]):
                    later = ScopeMark(row["version"], row["moved_at"])
                    note_mark(scope, replace(known, mark=later))
                    admission = "used"
                if attempt.admit(admission):
                    attempt.result.set_result(await work())

        attempt = Attempt[Any](self._replica, read)
        try:
            admission = await attempt.admitted()
            if admission != "used":
                if admission == "promoted":
                    self._replica.leave(StoreUnavailable(NO_STANDBY))
                return admission, None
            return admission, await attempt.outcome()
        except (StoreUnavailable, SetupError, TimeoutError) as error:
            if is_conflict(error):
                return "conflict", None
            self._replica.leave(error)
        except LumaMemoryError:
            pass  # about the request: the primary reports it
        return "failed", None

    async def _was_shown(self, scope: Scope, version: int) -> bool:
        """Whether a version that is later than the one looked up was committed on the primary: a
        replica that has diverged from it has others. Its log has those of some minutes."""
        statement = _SQL["was_shown"]
        row = await self._database.fetch_row(statement, scope.project_id, scope.user_id, version)
        return row is not None

    def _admission(self, row: asyncpg.Record, known: KnownMark) -> Admission:
        if not row["is_standby"]:
            return "promoted"
        if row["moved_at"] != known.mark.moved_at or (row["version"] or 0) < known.mark.version:
            return "behind"
        passed = round((time.monotonic() - known.requested_at) * 1_000_000)
        deviation = _microseconds(row) - known.read_at
        if not -CLOCK_MICROSECONDS <= deviation <= passed + CLOCK_MICROSECONDS:
            return "clock"
        if row["may_renew"]:
            return "renewed"
        return "used" if row["version"] == known.mark.version else "ahead"


def replicated(
    make: Callable[[Database], StoreT], database: Database, replica: Replica, emit: Emit
) -> StoreT:
    """What `make` makes for the database, with some of its reads served by the replica."""
    return cast("StoreT", ReplicatedStore(make, database, replica, emit))


def _microseconds(row: asyncpg.Record) -> int:
    return int.from_bytes(row["read_at"], signed=True)
