"""Former versions of blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

RevisionReason = Literal["edit", "enrichment", "supersession"]


@dataclass(frozen=True, slots=True)
class BlockRevision:
    """The state that a change replaced."""

    id: int  # rises with time within a block
    revision: int  # of the block at that time
    reason: RevisionReason  # the change that replaced it
    changed_by: str  # "key lmk_…", "job 17" …
    before: Mapping[str, Any]  # the fields that were replaced, or all of them
    created_at: datetime  # of the change


@dataclass(frozen=True, slots=True)
class RevisionPage:
    """Revisions, newest first; `next_below` continues the list, None at its end."""

    revisions: Sequence[BlockRevision]
    next_below: int | None
