"""The wait that an HTTP response requests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

DEFAULT_SECONDS: Final = 10.0
MIN_SECONDS: Final = 1.0
# Also bounds a mistaken header of a year. If the provider needs longer, it states so again after
# the wait, which spends no attempt.
MAX_SECONDS: Final = 3600.0


def retry_after_seconds(headers: Mapping[str, str]) -> float:
    """Seconds in [1, 3600]; 10 if the header is missing or invalid. See `stated_seconds`."""
    seconds = stated_seconds(headers)
    return DEFAULT_SECONDS if seconds is None else min(seconds, MAX_SECONDS)


def stated_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds, at least 1; None if the header is missing or invalid.

    headers: lower-case names. Reads `retry-after-ms`, then `retry-after` as seconds or as an HTTP
    date (RFC 9110, 10.2.3). A date is measured from the answer's own `date`, so that a wrong clock
    on either side does not matter.
    """
    seconds = (
        _number(headers.get("retry-after-ms"), 1000)
        or _number(headers.get("retry-after"), 1)
        or _seconds_until(headers.get("retry-after"), headers.get("date"))
    )
    return None if seconds is None else max(seconds, MIN_SECONDS)


def _number(text: str | None, divisor: int) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    # 0 is the shortest wait and not a missing header.
    return None if math.isnan(value) else max(value / divisor, MIN_SECONDS)


def _seconds_until(text: str | None, sent: str | None) -> float | None:
    until = _http_date(text)
    if until is None:
        return None
    return (until - (_http_date(sent) or datetime.now(UTC))).total_seconds()


def _http_date(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
