"""Provider states shared by all workers: `ports.circuits.Circuits` on memory_circuits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from luma_memory.domain.circuit import CircuitReport, CircuitState
from luma_memory.ports.circuits import CircuitFault, CircuitNote, CircuitView
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)


@dataclass(frozen=True, slots=True)
class CircuitTimes:
    """When a circuit opens, and for how long.

    Failures of one kind in a row, over all workers: with fewer, faults of single blocks would stop
    the processing of others; with more, each would cost a timeout. Fewer are enough if the account
    is refused (key, credit). The pause doubles with every failed probe.
    """

    away_failures: int = 5
    refused_failures: int = 3
    pause: timedelta = timedelta(seconds=5)
    pause_max: timedelta = timedelta(seconds=60)
    # After this long without an outcome, a probe is given up.
    probe: timedelta = timedelta(seconds=30)


class PostgresCircuits:
    """One row per circuit; its lock orders the notes."""

    def __init__(self, database: Database, times: CircuitTimes | None = None) -> None:
        self._database = database
        self._times = times or CircuitTimes()

    async def enter(self, name: str) -> CircuitView:
        row = await self._database.fetch_row(_SQL["enter_circuit"], name, self._times.probe)
        assert row is not None
        return CircuitView(**dict(row))

    async def states(self) -> Mapping[str, CircuitState]:
        rows = await self._database.fetch(_SQL["circuit_states"])
        return {row["name"]: row["state"] for row in rows}

    async def faults(self, names: Sequence[str]) -> Sequence[CircuitFault]:
        """Those of these circuits that are open or whose last calls failed."""
        rows = await self._database.fetch(_SQL["circuit_faults"], list(names))
        return [CircuitFault(**dict(row)) for row in rows]

    async def any_open(self, names: Sequence[str]) -> bool:
        """Whether one of these circuits lets no call through now."""
        row = await self._database.fetch_row(_SQL["any_open"], list(names))
        assert row is not None
        return bool(row["is_open"])

    async def reports(self, names: Sequence[str]) -> Sequence[CircuitReport]:
        """These circuits, and others that are open or failed within a day."""
        rows = await self._database.fetch(_SQL["circuit_reports"], list(names))
        return [CircuitReport(**dict(row)) for row in rows]

    async def note(self, name: str, note: CircuitNote) -> None:
        times = self._times
        failures_max = times.refused_failures if note.outcome == "refused" else times.away_failures
        await self._database.execute(
            _SQL["note_circuit"],
            name,
            note.outcome,
            note.is_probe,
            note.code,
            note.reason,
            note.wait,
            failures_max,
            times.pause,
            times.pause_max,
        )
