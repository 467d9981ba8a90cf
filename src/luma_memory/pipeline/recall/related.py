"""Apply relations to a ranking: lift blocks related to the best ones, fold repetitions.

A block that is related to one of the best gains a share of the difference between their z-scores,
times the relation's confidence. So it moves toward the related block and never past it, and
relations are a small part of a score. Not every relation counts: "related" only means that two
blocks share a name, and counting it made rankings worse; a duplicate is folded into the better
block instead. Of two blocks that contradict each other both are returned, the later one first.
Share and seeds were measured: docs/recall.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from luma_memory.domain.relation import RelationType
from luma_memory.pipeline.recall.fusion import Fusion, RankedBlock

SEEDS: Final = 5
SHARE: Final = 0.1
# Blocks ranked beyond the limit, to replace folded duplicates.
FOLDING_PLACES: Final = 20
# Relations read per search; the most confident first.
LINKS_MAX: Final = 500
# In deviations: enough to rank before an equal block, negligible next to a real difference.
_AHEAD: Final = 1e-6
LIFTING: Final[frozenset[RelationType]] = frozenset(
    {"elaborates", "supports", "contradicts", "supersedes", "causes", "follows"}
)


@dataclass(frozen=True, slots=True)
class NumberedLink:
    """An accepted relation between two blocks of a layout, by their numbers."""

    source: int
    target: int
    type: RelationType
    confidence: float  # 0..1


@dataclass(frozen=True, slots=True)
class Lift:
    """The gain of a block by its relation to a better one."""

    by: int
    type: RelationType
    gain: float  # > 0, in deviations


@dataclass(frozen=True, slots=True)
class Related:
    """A ranking after relations were applied."""

    ranked: Sequence[RankedBlock]
    lifts: Mapping[int, Lift] = field(default_factory=dict)  # by block
    folded: Mapping[int, Sequence[int]] = field(default_factory=dict)  # by the block that is shown


def with_relations(fusion: Fusion, links: Sequence[NumberedLink], *, limit: int) -> Related:
    """The `limit` best blocks, after lifting those that are related to the very best."""
    seeds = fusion.best_blocks(SEEDS)
    lifted = _lifts(seeds, links, fusion)
    gains = {block: lift.gain for block, lift in lifted.items()}
    gains |= _newer_first(links, fusion, gains)
    ranked = fusion.best(limit + FOLDING_PLACES, gains=gains)
    kept, folded = _folded(ranked, links)
    return Related(kept[:limit], lifted, folded)


def _lifts(
    seeds: Sequence[int], links: Sequence[NumberedLink], fusion: Fusion
) -> Mapping[int, Lift]:
    """The best lift of each block."""
    found: dict[int, Lift] = {}
    for link in links:
        if link.type not in LIFTING:
            continue
        for seed, other in ((link.source, link.target), (link.target, link.source)):
            below = fusion.z_score(seed) - fusion.z_score(other)
            gain = SHARE * link.confidence * below
            if seed in seeds and gain > 0 and (other not in found or gain > found[other].gain):
                found[other] = Lift(seed, link.type, gain)
    return found


def _newer_first(
    links: Sequence[NumberedLink], fusion: Fusion, gains: Mapping[int, float]
) -> Mapping[int, float]:
    """Gains by which a block ranks just before an earlier one that it contradicts.

    The source of such a relation is the later block. Blocks are numbered newest first, so that a
    chain of contradictions is processed from its oldest block.
    """
    found = dict(gains)
    contradictions = [link for link in links if link.type == "contradicts"]
    for link in sorted(contradictions, key=lambda link: (link.target, link.source), reverse=True):
        newer = fusion.z_score(link.source) + found.get(link.source, 0.0)
        older = fusion.z_score(link.target) + found.get(link.target, 0.0)
        if newer <= older:
            found[link.source] = found.get(link.source, 0.0) + (older - newer) + _AHEAD
    return found


def _folded(
    ranked: Sequence[RankedBlock], links: Sequence[NumberedLink]
) -> tuple[Sequence[RankedBlock], Mapping[int, Sequence[int]]]:
    """The best block of each set of duplicates, with those folded into it."""
    same: dict[int, set[int]] = {}
    for link in links:
        if link.type == "duplicates":
            same.setdefault(link.source, set()).add(link.target)
            same.setdefault(link.target, set()).add(link.source)
    kept: list[RankedBlock] = []
    shown_by: dict[int, int] = {}
    folded: dict[int, list[int]] = {}
    for entry in ranked:
        shown = next((shown_by[one] for one in same.get(entry.block, ()) if one in shown_by), None)
        if shown is None:
            kept.append(entry)
            shown_by[entry.block] = entry.block
        else:
            folded.setdefault(shown, []).append(entry.block)
            shown_by[entry.block] = shown
    return kept, folded
