"""Plan the windows of turns of a session, and their texts.

A single chat turn carries little meaning ("Yes, since last May!"), so a few turns are embedded
together, and a block is also ranked by the windows that contain it. A window spans three turns and
is stored with the last of them, so it never waits for a later turn. Every second turn ends a
window, so each turn is in one or two: measured to be as good as a window per turn, at half the cost
(docs/recall.md).

A stored window has a fingerprint of its turns. When a turn is late, edited or deleted, only the
windows around it no longer match and are made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final
from uuid import UUID

from luma_memory.domain.windows import Turn

WINDOW_TURNS: Final = 3
# Per turn: three turns with their speakers fit into the 256 tokens of the local model.
TURN_CHARACTERS: Final = 400
# How many turns before the first one must be known to decide which of its windows still match.
TURNS_BEFORE: Final = 2 * (WINDOW_TURNS - 1)


@dataclass(frozen=True, slots=True)
class Window:
    """A window to embed."""

    block_id: UUID
    fingerprint: int
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes to a range of a session."""

    windows: Sequence[Window]
    dropped: Sequence[UUID]  # blocks whose stored window no longer matches and is not replaced


def plan_windows(turns: Sequence[Turn], *, embedding_model: str) -> Plan:
    """The windows that a range of one session lacks.

    turns: in order; up to TURNS_BEFORE of them `is_before`, fewer only at the start of the session.
    After the plan is applied, every turn except possibly the last is in a matching window, and
    every window matches. A session with a single turn gets none.
    """
    known = sum(turn.is_before for turn in turns)
    # The windows of these turns cannot be checked, so they are left unchanged.
    blind = WINDOW_TURNS - 1 if known == TURNS_BEFORE else 0
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
