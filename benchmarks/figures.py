"""The lines of the report: a value, its limit, and whether it is within the limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal


class WrongResultError(Exception):
    """The service gave a wrong answer, so its speed means nothing."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the ratio of value to limit has to be."""

    ratio: float
    better: Literal["low", "high"]

    def holds(self, ratio: float) -> bool:
        return ratio <= self.ratio if self.better == "low" else ratio >= self.ratio

    def __str__(self) -> str:
        return f"{'≤' if self.better == 'low' else '≥'} {self.ratio:g}"


@dataclass(frozen=True, slots=True)
class Line:
    """One measurement. Without a limit it is reported only."""

    key: str  # stable name in the JSON
    what: str
    value: float
    unit: str
    limit: float | None = None
    limit_name: str | None = None
    # Median of the rounds' ratios, so not always exactly value / limit.
    ratio: float | None = None
    target: Target | None = None
    note: str = ""

    @property
    def verdict(self) -> Literal["ok", "miss", ""]:
        if self.target is None or self.ratio is None:
            return ""
        return "ok" if self.target.holds(self.ratio) else "miss"

    def to_json(self) -> dict[str, Any]:
        plain = asdict(self)
        plain["target"] = str(self.target) if self.target else None
        plain["verdict"] = self.verdict or None
        return plain


@dataclass(frozen=True, slots=True)
class Round:
    """A value and its limit, measured one right after the other."""

    value: float
    limit: float


def compared(
    key: str,
    what: str,
    rounds: Sequence[Round],
    *,
    unit: str,
    limit_name: str,
    target: Target | None,
    note: str = "",
) -> Line:
    """A line of interleaved rounds: the medians of values, of limits, and of their ratios."""
    return Line(
        key=key,
        what=what,
        value=median(entry.value for entry in rounds),
        unit=unit,
        limit=median(entry.limit for entry in rounds),
        limit_name=limit_name,
        ratio=median(entry.value / entry.limit for entry in rounds),
        target=target,
        note=note,
    )


def bounded(
    key: str, what: str, value: float, *, unit: str, limit: float, limit_name: str, note: str = ""
) -> Line:
    """A line whose limit is a promise in the same unit."""
    return Line(
        key=key,
        what=what,
        value=value,
        unit=unit,
        limit=limit,
        limit_name=limit_name,
        ratio=value / limit,
        target=Target(1.0, "low"),
        note=note,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank: a value that was measured. Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
