"""The blocks in the lines of an export, and counts of what a form leaves out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Counts:
    """written: blocks in the result. left_out: by what they are."""

    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


class Blocks:
    """Takes the rows of blocks out of the lines of an export."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.user_id = ""  # known from the first line on

    def take(self, line: bytes) -> Mapping[str, Any] | None:
        """The row of a block. None for other rows, and for items: the JSON values of a program are
        no memories."""
        entry = json.loads(line)
        if entry.get("kind") == "header":
            self.user_id = entry["user_id"]
        if entry.get("kind") != "blocks":
            return None
        row: Mapping[str, Any] = entry["row"]
        if row.get("namespace") is not None:
            self.counts.left_out["items"] += 1
            return None
        return row


def text(row: Mapping[str, Any], name: str) -> str | None:
    """The text of a column; None for an empty one."""
    value = row.get(name)
    return value if isinstance(value, str) and value else None
