"""Numbers of the service over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

Resolution = Literal["minute", "hour"]
BUCKETS: Final[Mapping[Resolution, timedelta]] = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
}
KEPT: Final[Mapping[Resolution, timedelta]] = {
    "minute": timedelta(days=1),
    "hour": timedelta(days=30),
}


@dataclass(frozen=True, slots=True)
class History:
    """Series with one value for each bucket; None where nothing is known."""

    resolution: Resolution
    times: Sequence[datetime]  # starts of the buckets, without a gap
    series: Mapping[str, Sequence[float | None]]
