"""Where repositories work: on the one database, or on the partitions that users are spread over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from luma_memory.bootstrap.database import operators_database
from luma_memory.domain.partition import Partition, layout_of
from luma_memory.domain.scope import Scope
from luma_memory.partitions.move_locks import finish_move
from luma_memory.partitions.places import Places
from luma_memory.partitions.stores import one_of_all, stores_of_all
from luma_memory.postgres.database import Database
from luma_memory.postgres.replica import Replica
from luma_memory.settings import Settings
from luma_memory.store.partitions import PartitionDirectory
from luma_memory.store.replicated import replicated
from luma_memory.telemetry.events import Emit
from luma_memory.telemetry.logs import log_event

StoreT = TypeVar("StoreT")


@dataclass(frozen=True, slots=True)
class Placement:
    """places: None with one partition, which is then used without any detour.

    replica: of the server of DATABASE_URL; None without one.
    home: has what an installation has once (keys, circuits, secrets, history, the directory).
    """

    home: Database
    places: Places | None
    replica: Replica | None = None
    emit: Emit = log_event

    @property
    def part_of(self) -> Callable[[Scope], int] | None:
        """The partition of a user; None with one partition."""
        return None if self.places is None else self.places.number_of

    @property
    def was_away_since(self) -> Callable[[float], bool]:
        """Whether a server failed to respond after a `time.monotonic()`."""
        return (self.places or self.home).was_away_since

    def store(self, make: Callable[[Database], StoreT]) -> StoreT:
        """A repository, made by `make` for the database or for each partition."""
        return make(self.home) if self.places is None else one_of_all(self.places, make)

    def read_store(self, make: Callable[[Database], StoreT]) -> StoreT:
        """As `store`, for reads that the replica may serve."""
        replica, emit = self.replica, self.emit
        if replica is None:
            return self.store(make)
        if self.places is None:
            return replicated(make, self.home, replica, emit)
        return one_of_all(
            self.places, make, over=lambda partition: replicated(make, partition, replica, emit)
        )

    def stores(self, make: Callable[[Database], StoreT]) -> Sequence[StoreT]:
        """A repository in each partition, in their order."""
        return [make(self.home)] if self.places is None else stores_of_all(self.places, make)


async def open_placement(database: Database) -> Placement:
    """Where users are, as the directory has it now. The caller closes the places.

    database: of DATABASE_URL, open. Partitions at other addresses are connected to at their first
    use. Raises StoreUnavailable, and SetupError behind a transaction pooler.
    """
    known = await PartitionDirectory(database).partitions()
    layout = layout_of(known)
    if len(known) < 2 or layout is None:
        return Placement(database, None)
    if layout == "home" and await database.shares_sessions():
        return Placement(database, None)  # partitions cannot be used, and are not
    await database.close()
    database.hold_partitions(len(known))
    places = Places(
        known,
        home=database,
        open_server=database.elsewhere,
        read_directory=_read_directory,
        finish_move=finish_move,
    )
    await places.home.fetch("SELECT")  # reports a pooler that sets no search_path
    return Placement(places.home, places)


async def _read_directory(home: Database) -> Sequence[Partition]:
    return await PartitionDirectory(home).partitions()


@asynccontextmanager
async def operators_placement(settings: Settings) -> AsyncIterator[Placement]:
    """As `operators_database`, for commands that work on users' data."""
    async with operators_database(settings) as database:
        placement = await open_placement(database)
        try:
            yield placement
        finally:
            if placement.places is not None:
                await placement.places.close()
