"""When a delivery is tried again, and when a receiver is left alone.

Times are multiples of one unit, the wait after the first failed attempt: with the default of 5
seconds, the ten attempts of a delivery spread over two days.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from luma_memory.concurrency.retries import jittered
from luma_memory.domain.webhook import DueDelivery, EndpointState, Response, Webhook

# 5 s, 1 min, 5 min, 30 min, 2 h, 5 h, 8 h, 14 h, 18 h.
WAITS: Final = (1, 12, 60, 360, 1_440, 3_600, 5_760, 10_080, 12_960)
# A delivery that the circuit kept from being tried is given up at this age all the same.
AGE_MAX: Final = sum(WAITS) * 1.1
# A receiver is not waited for longer than that, whatever it asks for.
_RETRY_AFTER_MAX: Final = timedelta(hours=12)
CIRCUIT_FAILURES: Final = 5
# 30 s after the fifth failure, doubling up to 15 min.
_CIRCUIT_WAIT: Final = 6
_CIRCUIT_DOUBLINGS_MAX: Final = 5
_GONE: Final = 410


def retry_at(
    delivery: DueDelivery, response: Response, *, unit: timedelta, now: datetime
) -> datetime | None:
    """When to try again; None after a success, and when it has failed for good."""
    if response.is_success or response.status == _GONE or delivery.attempts >= len(WAITS):
        return None
    seconds = unit.total_seconds() * WAITS[delivery.attempts]
    wait = timedelta(seconds=jittered(seconds, low=0.9, high=1.1))
    if response.retry_after_seconds is not None:
        stated = min(response.retry_after_seconds, _RETRY_AFTER_MAX.total_seconds())
        wait = max(wait, timedelta(seconds=stated))
    if now + wait - delivery.created_at > unit * AGE_MAX:
        return None
    return now + wait


def state_after(
    state: EndpointState,
    response: Response,
    *,
    is_final: bool,
    unit: timedelta,
    now: datetime,
) -> EndpointState:
    """What an attempt says of its receiver. is_final: the delivery is not tried again."""
    if state.disabled_reason is not None:
        return state
    if response.is_success:
        return EndpointState()
    failures = state.failures + 1
    since = state.failing_since or now
    if response.status == _GONE:
        return EndpointState(failures, since, None, "the receiver responded 410 Gone")
    # One delivery has failed for good, and no other succeeded for half of the time it was tried.
    if is_final and now - since >= unit * sum(WAITS) / 2:
        return EndpointState(failures, since, None, "no delivery succeeded for a day")
    until = state.circuit_until
    if failures >= CIRCUIT_FAILURES:
        doublings = min(failures - CIRCUIT_FAILURES, _CIRCUIT_DOUBLINGS_MAX)
        until = now + unit * jittered(_CIRCUIT_WAIT * 2**doublings, low=0.8, high=1.2)
    return EndpointState(failures, since, until)


def initial_state(webhook: Webhook) -> EndpointState:
    """What the attempts before say."""
    return EndpointState(webhook.failures, webhook.failing_since, webhook.circuit_until)
