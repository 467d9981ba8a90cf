"""Which windows of turns a session needs, and what they say.

A turn of a chat says little by itself ("Yes, since last May!"), so a few turns are embedded
together and a block is ranked by the windows it is in as well. A window holds three turns and is
stored with the last of them, so it is made of turns that are there and never has to wait for one.
Every second turn ends one, so that each turn is in one or two: measured as good as a window for
every turn, for half the cost (docs/recall.md).

The stored window carries a fingerprint of its turns. A turn that comes late, is edited or deleted
changes what the windows around it should hold: they no longer fit and are made again, no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final
from uuid import UUID

from luma_memory.domain.windows import Turn

WINDOW_TURNS: Final = 3
# Of each turn: three of them and their speakers fit into the 256 tokens the local model reads.
TURN_CHARACTERS: Final = 400
# How many turns before the first one must be known to tell which of its windows still fit.
LOOK_BACK: Final = 2 * (WINDOW_TURNS - 1)


@dataclass(frozen=True, slots=True)
class Window:
    """A window to be made."""

    block_id: UUID
    fingerprint: int
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done in a stretch of a session."""

    windows: Sequence[Window]
    dropped: Sequence[UUID]  # blocks whose stored window no longer fits and is not made again


def plan_windows(turns: Sequence[Turn], *, embedding_model: str) -> Plan:
    """The windows that a stretch of one session lacks.

    turns: in order; up to LOOK_BACK of them `is_before`, fewer only where the session begins.
    Afterwards every turn but a last one is in a window that fits, and every window fits. A
    session's only turn has nothing around it and gets none.
    """
    known = sum(turn.is_before for turn in turns)
    # Of these it cannot be told what their windows should hold: they are left as they are.
    blind = WINDOW_TURNS - 1 if known == LOOK_BACK else 0
    covered = [index < blind for index in range(len(turns))]
    stale: list[int] = []
    for end, turn in enumerate(turns):
        if turn.window is None or end < blind:
            continue
        if (turn.window.fingerprint, turn.window.embedding_model) == (
            _fingerprint(turns, end),
            embedding_model,
        ):
            _cover(covered, end)
        else:
            stale.append(end)
    ends: list[int] = []
    for index in range(len(turns) - 1):
        if not covered[index]:
            ends.append(index + 1)
            _cover(covered, index + 1)
    return Plan(
        windows=[_window(turns, end) for end in ends],
        dropped=[turns[end].place.block_id for end in stale if end not in set(ends)],
    )


def _cover(covered: list[bool], end: int) -> None:
    for index in _span(end):
        covered[index] = True


def _span(end: int) -> range:
    return range(max(0, end - WINDOW_TURNS + 1), end + 1)


def _window(turns: Sequence[Turn], end: int) -> Window:
    text = "\n".join(_line(turns[index]) for index in _span(end))
    return Window(turns[end].place.block_id, _fingerprint(turns, end), text)


def _line(turn: Turn) -> str:
    return f"{turn.speaker}: {turn.text}" if turn.speaker else turn.text


def _fingerprint(turns: Sequence[Turn], end: int) -> int:
    """31 bits of the ids and revisions of the turns in the window: fits an integer column."""
    digest = blake2b(digest_size=4)
    for index in _span(end):
        turn = turns[index]
        digest.update(turn.place.block_id.bytes + turn.revision.to_bytes(8, "big"))
    return int.from_bytes(digest.digest(), "big") >> 1
