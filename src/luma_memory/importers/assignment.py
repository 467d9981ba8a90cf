"""From what importers yield to bodies for the service: whose block it is, and in which request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from luma_memory.domain.errors import Invalid
from luma_memory.importers.records import ImportedBlock, Item, SkippedItem
from luma_memory.importers.texts import storable_json

# One request of blocks; the service accepts 32 MB.
_GROUP_CHARACTERS_MAX: Final = 4_000_000
# So that an export of which nothing is stored is reported as it is read.
_GROUP_SKIPPED_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which user a block goes to: its speaker's own, else the one named, else the source's."""

    user: str | None
    speakers: Mapping[str, str]

    def user_of(self, block: ImportedBlock) -> str | None:
        return self.speakers.get(block.speaker or "") or self.user or block.owner


def parse_speakers(entries: Iterable[str]) -> Mapping[str, str]:
    """Users by speaker, of entries such as `Ann Example=ann`. Raises Invalid (code map_invalid)."""
    speakers = {}
    for entry in entries:
        name, separator, user = entry.rpartition("=")
        if not separator or not name.strip() or not user.strip():
            raise Invalid(f"{entry[:100]!r} is not NAME=USER", code="map_invalid", field="map")
        speakers[name.strip()] = user.strip()
    return speakers


@dataclass(slots=True)
class Group:
    """Blocks that are stored together, and what was skipped before them."""

    blocks: list[ImportedBlock] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[SkippedItem] = field(default_factory=list)


def groups(
    items: Iterator[Item], assignment: Assignment, *, title: str, count_max: int
) -> Iterator[Group]:
    """Groups bounded in number and size. An item without a user is skipped (reason no_user)."""
    group, characters = Group(), 0
    for item in items:
        if isinstance(item, SkippedItem):
            group.skipped.append(item)
        elif (user := assignment.user_of(item)) is None:
            detail = f"{item.speaker or 'no speaker'}: name a user with --user or --map"
            group.skipped.append(SkippedItem(f"{title}: {item.external_id}", "no_user", detail))
        else:
            group.blocks.append(item)
            group.bodies.append(_body(item, user))
            characters += len(item.content)
        if (
            len(group.bodies) == count_max
            or len(group.skipped) >= _GROUP_SKIPPED_MAX
            or characters > _GROUP_CHARACTERS_MAX
        ):
            yield group
            group, characters = Group(), 0
    if group.bodies or group.skipped:
        yield group


def _body(block: ImportedBlock, user: str) -> dict[str, Any]:
    body = {
        "user_id": user,
        "content": block.content,
        "external_id": block.external_id,
        "source": block.source,
        "speaker": block.speaker,
        "session_id": block.session_id,
        "agent_id": block.agent_id,
        "occurred_at": block.occurred_at.isoformat() if block.occurred_at else None,
        "metadata": storable_json(dict(block.metadata)) or None,
    }
    return {name: value for name, value in body.items() if value is not None}
