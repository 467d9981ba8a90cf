"""Shared state of the providers' circuit breakers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

CircuitState = Literal["closed", "limited", "away", "refused"]


CircuitOutcome = Literal["well", "limited", "away", "refused"]


@dataclass(frozen=True, slots=True)
class CircuitView:
    """Whether a provider may be called, as far as anybody here knows."""

    state: CircuitState  # closed: go on and call
    code: str | None = None  # of the error that opened it
    reason: str | None = None
    wait_seconds: float = 0.0  # until it is worth asking again
    failures: int = 0  # in a row, before this call
    is_probe: bool = False  # this caller alone tries an open circuit: note what comes of it


@dataclass(frozen=True, slots=True)
class CircuitNote:
    """What came of a call."""

    outcome: CircuitOutcome
    is_probe: bool = False
    code: str | None = None
    reason: str | None = None
    wait: timedelta = timedelta(0)  # for "limited"


@dataclass(frozen=True, slots=True)
class CircuitFault:
    """A provider that cannot be called now."""

    name: str
    state: CircuitState  # never closed
    since: datetime
    code: str | None


class Circuits(Protocol):
    """What all workers know of the providers. All methods raise StoreUnavailable."""

    async def enter(self, name: str) -> CircuitView:
        """Ask before a call."""
        ...

    async def note(self, name: str, note: CircuitNote) -> None:
        """Tell the others."""
        ...
