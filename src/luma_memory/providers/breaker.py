"""Check before a call whether the provider is known to be down, and share the result of calls.

    closed    call
    limited   the provider asked to wait: no calls until then             -> RateLimited
    away      failed several times in a row, in any process               -> ProviderPaused
    refused   the key or the account was refused several times in a row   -> ProviderRejected

When an open circuit expires, one caller of all processes probes the provider; the others wait for
its result. Faults of a single text (a refusal, an invalid response) do not open the circuit: the
provider is available.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final, TypeVar, assert_never

from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import (
    LumaMemoryError,
    ProviderPaused,
    ProviderRejected,
    ProviderResponseInvalid,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    StoreUnavailable,
)
from luma_memory.ports.circuits import CircuitNote, CircuitOutcome, Circuits, CircuitView

ResultT = TypeVar("ResultT")

# Age limit of the shared state: one statement per second and process.
REFRESH_SECONDS: Final = 1.0
# While another caller probes.
PROBED_SECONDS: Final = 1.0
_UNKNOWN: Final = CircuitView(state="closed")


class NoCircuits:
    """`ports.circuits.Circuits` of a process that calls each provider once."""

    async def enter(self, name: str) -> CircuitView:
        return _UNKNOWN

    async def note(self, name: str, note: CircuitNote) -> None:
        return


class Breaker:
    """One provider, account and model, identified by `name`.

    While the database is unavailable every call is allowed: the breaker saves calls, it
    protects nothing.
    """

    def __init__(self, circuits: Circuits, name: str, *, clock: Clock) -> None:
        self._circuits = circuits
        self._name = name
        self._clock = clock
        self._view = _UNKNOWN
        self._seen_at = self._valid_until = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._has_failed = False  # since the last recorded success
        self._probe_is_free = False

    async def call(self, work: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """The result or error of `work`; without a call, the error of the open circuit.

        If cancelled, it records nothing; another caller takes over the probe when its time is up.
        """
        view = await self._enter()
        _check(view)
        try:
            result = await work()
        except LumaMemoryError as error:
            note = _note_of(error, view)
            if note.outcome != "well" or view.is_probe:
                self._has_failed = note.outcome != "well"
                await self._note(note)
            raise
        if view.is_probe or view.failures or self._has_failed:
            self._has_failed = False
            await self._note(CircuitNote("well", view.is_probe))
        return result

    async def _enter(self) -> CircuitView:
        if self._clock.monotonic() >= self._valid_until:
            # One statement for all concurrent callers; it survives the cancellation of any of them.
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask())
            await asyncio.shield(self._asking)
        if self._view.is_probe:
            if self._probe_is_free:
                self._probe_is_free = False
                return self._view
            return replace(self._view, is_probe=False, wait_seconds=PROBED_SECONDS)
        passed = self._clock.monotonic() - self._seen_at
        return replace(self._view, wait_seconds=max(self._view.wait_seconds - passed, 0.0))

    async def _ask(self) -> None:
        try:
            self._view = await self._circuits.enter(self._name)
        except StoreUnavailable:
            self._view = _UNKNOWN
        finally:
            self._asking = None
        self._seen_at = self._clock.monotonic()
        self._probe_is_free = self._view.is_probe
        self._valid_until = self._seen_at + REFRESH_SECONDS

    async def _note(self, note: CircuitNote) -> None:
        self._valid_until = float("-inf")
        with contextlib.suppress(StoreUnavailable):
            await self._circuits.note(self._name, note)


def _check(view: CircuitView) -> None:
    if view.is_probe:
        return
    # The result of another caller's probe is known soon.
    seconds = max(view.wait_seconds, PROBED_SECONDS)
    reason = view.reason or "The provider cannot be called now."
    match view.state:
        case "closed":
            return
        case "limited":
            raise RateLimited(reason, retry_after_seconds=seconds)
        case "away":
            raise ProviderPaused(reason, retry_after_seconds=seconds)
        case "refused":
            raise ProviderRejected(reason, code=view.code)
        case _:
            assert_never(view.state)


def _note_of(error: LumaMemoryError, view: CircuitView) -> CircuitNote:
    outcome: CircuitOutcome = "well"
    wait = timedelta(0)
    match error:
        case RateLimited():
            outcome, wait = "limited", timedelta(seconds=error.retry_after_seconds)
        case ProviderUnavailable() | ProviderTimeout():
            outcome = "away"
        case ProviderRejected() if error.concerns_account:
            outcome = "refused"
        case ProviderResponseInvalid() if error.code == "provider_redirected":
            outcome = "away"  # as from gateways under maintenance
        case _:
            pass  # the provider is available
    return CircuitNote(outcome, view.is_probe, error.code, str(error), wait)
