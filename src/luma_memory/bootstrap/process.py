"""The common needs of all groups: settings, clock, events and an exit stack."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from luma_memory.bootstrap.database import ProcessKind
from luma_memory.domain.clock import Clock, SystemClock
from luma_memory.queue.session import new_worker_id
from luma_memory.settings import Settings
from luma_memory.telemetry.events import Event
from luma_memory.telemetry.history import HistoryCounts
from luma_memory.telemetry.logs import log_event
from luma_memory.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the service. stack: closes what was opened, last opened first."""

    settings: Settings
    kind: ProcessKind
    worker_id: str
    stack: AsyncExitStack
    clock: Clock = field(default_factory=SystemClock)
    metrics: Metrics = field(default_factory=Metrics)
    history: HistoryCounts = field(default_factory=HistoryCounts)

    @classmethod
    def of(cls, settings: Settings, kind: ProcessKind, stack: AsyncExitStack) -> Process:
        return cls(settings, kind, new_worker_id(kind), stack)

    def emit(self, event: Event) -> None:
        """Logs, metrics and the history subscribe to every event."""
        log_event(event)
        self.metrics(event)
        self.history(event)
