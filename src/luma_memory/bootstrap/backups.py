"""Backups of the configured database, and databases made from them.

With several partitions a backup is a folder: a dump of each partition, and a manifest.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from luma_memory.bootstrap.database import database_address, migrate_database, operators_database
from luma_memory.bootstrap.partitions import Partitions
from luma_memory.bootstrap.private_files import write_private_text
from luma_memory.domain.errors import Conflict, Invalid, SetupError
from luma_memory.domain.partition import HOME, Partition, first_id, layout_of
from luma_memory.partitions.move_locks import no_moves
from luma_memory.postgres.database import Database
from luma_memory.postgres.dumps import dump, empty, holds_something, load, snapshot_of
from luma_memory.settings import Settings
from luma_memory.store.events import continue_positions
from luma_memory.store.partitions import PartitionDirectory, begin_ids, renamed

_MANIFEST: Final = "manifest.json"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a folder of dumps contains. schemas: of all partitions, in order of their numbers."""

    format: int
    taken_at: str
    schemas: Sequence[str]


async def back_up(settings: Settings, file: Path, *, number: int | None = None) -> None:
    """Write a file, or a folder if users are in several partitions. number: only that partition.

    Raises Conflict while partitions or users are being moved, and as `operators_database` and
    `dump`.
    """
    async with operators_database(settings) as home, database_address(settings) as dsn:
        directory = PartitionDirectory(home)
        if number is None and layout_of(await directory.partitions()) in {None, "home"}:
            await dump(home, dsn, file)
            return
        if await asyncio.to_thread(file.exists):
            raise Invalid(f"{file} exists already: a backup overwrites nothing", code="file_exists")
        async with no_moves(home):
            partitions = await directory.partitions()
            if layout_of(partitions) != "spread":
                raise Conflict(
                    "Users are being moved between partitions: finish luma-memory partitions adopt"
                    " first",
                    code="adoption_unfinished",
                )
            if number is None:
                await _write_folder(home, dsn, partitions, file)
            else:
                (chosen,) = _chosen(partitions, number)
                async with _opened(home, chosen) as database:
                    await dump(database, chosen.dsn or dsn, file)


async def _write_folder(
    home: Database, dsn: str, partitions: Sequence[Partition], folder: Path
) -> None:
    """All snapshots are taken before the first dump, one for each address."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    await asyncio.to_thread(shutil.rmtree, unfinished, ignore_errors=True)
    await asyncio.to_thread(unfinished.mkdir, mode=0o700)
    try:
        async with AsyncExitStack() as stack:
            snapshots: dict[str | None, str] = {}
            opened = [await stack.enter_async_context(_opened(home, one)) for one in partitions]
            for one, database in zip(partitions, opened, strict=True):
                if one.dsn not in snapshots:
                    taken = snapshot_of(database)
                    snapshots[one.dsn] = await stack.enter_async_context(taken)
            taken_at = datetime.now(UTC).isoformat()
            # The home partition last: its sequence of positions is then past every event's.
            for one, database in reversed(list(zip(partitions, opened, strict=True))):
                await dump(
                    database,
                    one.dsn or dsn,
                    unfinished / _name(one.number),
                    snapshot=snapshots[one.dsn],
                )
        manifest = Manifest(_FORMAT, taken_at, [one.schema for one in partitions])
        text = json.dumps(asdict(manifest), indent=2)
        await asyncio.to_thread(write_private_text, unfinished / _MANIFEST, text)
        await asyncio.to_thread(unfinished.rename, folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, unfinished, ignore_errors=True)


async def restore(settings: Settings, file: Path, *, number: int | None = None) -> None:
    """Bring an empty database to this version's schema and the backup's rows.

    number: only that partition, of an installation that has the others; its place is empty.
    Raises SetupError (code database_not_empty) if the database is not empty, Invalid for what is
    no backup, and as `load`.
    """
    manifest = await asyncio.to_thread(_manifest, file)
    async with database_address(settings) as dsn:
        await migrate_database(settings, dsn)
        async with operators_database(settings) as home:
            if number is not None:
                await _restore_one(home, dsn, file, manifest, number)
                return
            if await holds_something(home):
                raise _not_empty("This database")
            if manifest is None:
                await load(home, dsn, file)
            else:
                await _restore_all(home, dsn, file, manifest)


async def _restore_all(home: Database, dsn: str, folder: Path, manifest: Manifest) -> None:
    """To new partitions of the database, or to those that are there, which are empty.

    Until the last statement no user is in another partition, so that it can be repeated.
    """
    directory = PartitionDirectory(home)
    known = await directory.partitions()
    names = list(manifest.schemas[1:])
    if not known:
        known = await directory.plan_named(names, [None] * len(names))
    if len(known) != len(manifest.schemas):
        raise Conflict(
            f"The backup has {len(manifest.schemas)} partitions, this installation {len(known)}",
            code="partitions_exist",
        )
    is_used = layout_of(known) == "spread"
    for done in await Partitions(home).migrate():
        if done.error is not None:
            raise done.error
    for one in known[1:] if is_used else ():
        async with _opened(home, one) as database:
            if await holds_something(database):
                raise _not_empty(f"Partition {one.number}")
    try:
        for one, schema in list(zip(known, manifest.schemas, strict=True))[1:]:
            async with _opened(home, one) as database:
                async with renamed(database, schema) as place:
                    await load(place, one.dsn or dsn, folder / _name(one.number))
                await begin_ids(database, first_id(one.number))  # behind those of the backup
        await load(home, dsn, folder / _name(HOME))
    except BaseException:
        for one in known[1:]:
            async with _opened(home, one) as database:
                await empty(database)
        raise
    await directory.serve_restored()


async def _restore_one(
    home: Database, dsn: str, file: Path, manifest: Manifest | None, number: int
) -> None:
    known = await PartitionDirectory(home).partitions()
    if manifest is not None and len(manifest.schemas) != len(known):
        raise Conflict(
            f"The backup has {len(manifest.schemas)} partitions, this installation"
            f" {len(known) or 'one'}: its users would be looked for elsewhere",
            code="partitions_exist",
        )
    (one,) = _chosen(known, number)
    if number == HOME:
        await _restore_home(home, dsn, file if manifest is None else file / _name(HOME), known)
        return
    for done in await Partitions(home).migrate():
        if done.partition.number == number and done.error is not None:
            raise done.error
    async with _opened(home, one) as database:
        if await holds_something(database):
            raise _not_empty(f"Partition {number}")
        dumped = one.schema
        if manifest is not None:
            dumped, file = manifest.schemas[number], file / _name(number)
        async with renamed(database, dumped) as place:
            await load(place, one.dsn or dsn, file)
        await begin_ids(database, first_id(number))  # behind those of the backup


async def _restore_home(
    home: Database, dsn: str, file: Path, partitions: Sequence[Partition]
) -> None:
    """The others have newer events, and a secret that they shared with the lost one."""
    if await holds_something(home):
        raise _not_empty("The home partition")
    await load(home, dsn, file)
    for one in partitions[1:]:
        async with _opened(home, one) as database:
            await continue_positions(home, database)
    for done in await Partitions(home).migrate():
        if done.error is not None:
            raise done.error


def _chosen(partitions: Sequence[Partition], number: int) -> Sequence[Partition]:
    found = [one for one in partitions if one.number == number]
    if not found:
        raise Invalid(f"There is no partition {number}", field="partition")
    return found


def _manifest(folder: Path) -> Manifest | None:
    """None for a file. Raises Invalid for a folder that is no complete backup."""
    if not folder.is_dir():
        return None
    try:
        facts: Mapping[str, object] = json.loads((folder / _MANIFEST).read_text())
        manifest = Manifest(**facts)  # type: ignore[arg-type]
        is_known = manifest.format == _FORMAT and len(manifest.schemas) > 1
    except (OSError, ValueError, TypeError):
        is_known = False
    if not is_known:
        raise Invalid(f"{folder} is no backup of this version", code="not_a_backup")
    missing = [n for n in range(len(manifest.schemas)) if not (folder / _name(n)).is_file()]
    if missing:
        raise Invalid(f"{folder} lacks {_name(missing[0])}", code="not_a_backup")
    return manifest


def _name(number: int) -> str:
    return f"partition-{number}.dump"


def _not_empty(what: str) -> SetupError:
    return SetupError(
        f"{what} is not empty; a backup is restored into an empty one", code="database_not_empty"
    )


@asynccontextmanager
async def _opened(home: Database, partition: Partition) -> AsyncIterator[Database]:
    database = home.beside(schema=partition.schema, dsn=partition.dsn)
    try:
        yield database
    finally:
        await database.close()
