"""Everything a text names, in one list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from luma_memory.domain.enrichment import Entity
from luma_memory.providers.completion.extract.amounts import Amount
from luma_memory.providers.completion.extract.date_mention import Mention
from luma_memory.providers.completion.extract.links import Link
from luma_memory.providers.completion.extract.names import Name

MAX_ENTITIES = 50
MAX_NAME_CHARS = 500


def entities(
    names: Sequence[Name],
    dates: Sequence[Mention],
    amounts: Sequence[Amount],
    links: Sequence[Link],
) -> list[Entity]:
    """Up to 50, in order of appearance, unique by name (whatever its case) and kind."""
    placed: list[tuple[int, Entity]] = [
        *((date.start, Entity(date.name, "date", date.value)) for date in dates),
        *((link.start, Entity(link.text, "link")) for link in links),
        *((amount.start, Entity(amount.text, "number")) for amount in amounts),
        *((name.start, Entity(name.text, name.kind)) for name in names if _is_free(name, dates)),
    ]
    placed.sort(key=lambda pair: pair[0])
    return _unique(entity for _, entity in placed)


def _is_free(name: Name, dates: Sequence[Mention]) -> bool:
    return not any(name.start < date.end and date.start < name.end for date in dates)


def _unique(found: Iterable[Entity]) -> list[Entity]:
    seen: set[tuple[str, str]] = set()
    unique = []
    for entity in found:
        key = (entity.name.casefold(), entity.kind)
        if key not in seen and 0 < len(entity.name) <= MAX_NAME_CHARS:
            seen.add(key)
            unique.append(entity)
    return unique[:MAX_ENTITIES]
