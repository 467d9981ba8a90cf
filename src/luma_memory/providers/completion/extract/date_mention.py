"""A date in a text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mention:
    """A date as it is written, at [start, end) of the text; `value` is ISO 8601 (`date_values`)."""

    name: str
    start: int
    end: int
    value: str | None  # None: a date without a certain value ("a few days ago")
