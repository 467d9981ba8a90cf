"""Shared state of the providers' circuit breakers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from luma_memory.domain.circuit import CircuitState

CircuitOutcome = Literal["well", "limited", "away", "refused"]


@dataclass(frozen=True, slots=True)
class CircuitView:
    """Whether a provider may be called, as far as this process knows."""

    state: CircuitState  # closed: calls are allowed
    code: str | None = None  # of the error that opened it
    reason: str | None = None
    wait_seconds: float = 0.0  # seconds until the next probe
    failures: int = 0  # in a row, before this call
    is_probe: bool = False  # only this caller probes an open circuit, and must note the outcome


@dataclass(frozen=True, slots=True)
class CircuitNote:
    """The outcome of a call."""

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
    """The state of the providers, shared by all workers. All methods raise StoreUnavailable."""

    async def enter(self, name: str) -> CircuitView:
        """Request permission before a call."""
        ...

    async def note(self, name: str, note: CircuitNote) -> None:
        """Share a change of state with the other processes."""
        ...
