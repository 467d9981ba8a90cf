"""State of a model provider, as all processes share it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

CircuitState = Literal["closed", "limited", "away", "refused"]


@dataclass(frozen=True, slots=True)
class CircuitReport:
    """A provider's state and its last failure."""

    name: str
    state: CircuitState
    since: datetime | None  # of the first failure or the change of state; None: never failed
    failures: int  # consecutive
    retry_at: datetime | None  # of the next probe, while it is not closed
    last_code: str | None = None
    last_reason: str | None = None
    last_failed_at: datetime | None = None
