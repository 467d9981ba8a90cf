"""The response schema of an enrichment, and how a response becomes an `Enrichment`.

The schema is enforced (a mismatch is the provider's failure), the bounds are not: values that are
too long, too many or unknown are cut, dropped or set to the nearest allowed value, because another
attempt would cost money and return the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import date
from typing import Annotated, Final, get_args

from pydantic import BaseModel, BeforeValidator, Field

from luma_memory.domain.enrichment import (
    Enrichment,
    EnrichmentRequest,
    Entity,
    EntityKind,
    ModelCall,
)
from luma_memory.domain.errors import ProviderResponseInvalid
from luma_memory.providers.completion.inert_text import inert_line

TITLE_CHARACTERS_MAX: Final = 120
SUMMARY_CHARACTERS_MAX: Final = 600
TAGS_MAX: Final = 10
TAG_CHARACTERS_MAX: Final = 60
ENTITIES_MAX: Final = 50
NAME_CHARACTERS_MAX: Final = 200
UNKNOWN_LANGUAGE: Final = "und"

_KINDS: Final = frozenset(get_args(EntityKind))
_PARTIAL_DATE: Final = re.compile(r"(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?")
_ISO_639_1: Final = (
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu "
    "cv cy da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi "
    "ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks "
    "ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl "
    "nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl "
    "sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve "
    "vi vo wa wo xh yi yo za zh zu"
)
_LANGUAGES: Final = frozenset(_ISO_639_1.split())


def _known_kind(kind: object) -> object:
    return kind if kind in _KINDS else "other"


class EntityMention(BaseModel):
    """Something the text names, except dates."""

    name: str = Field(description="As the text writes it.")
    kind: Annotated[EntityKind, BeforeValidator(_known_kind)]


class DateMention(BaseModel):
    """A date the text mentions, in any form."""

    text: str = Field(description="As the text writes it, for example 'last Friday'.")
    iso: str | None = Field(
        description="That date as YYYY-MM-DD, YYYY-MM or YYYY, no more exact than the text; "
        "null if unclear."
    )


class EnrichmentOutput(BaseModel):
    """Facts about one text, in the language of the text."""

    title: str = Field(description=f"One line, at most {TITLE_CHARACTERS_MAX} characters.")
    summary: str = Field(description=f"At most {SUMMARY_CHARACTERS_MAX} characters.")
    tags: list[str] = Field(description=f"Up to {TAGS_MAX} topics, lower case, best first.")
    entities: list[EntityMention] = Field(
        description=f"Up to {ENTITIES_MAX}, in order of the text."
    )
    dates: list[DateMention] = Field(description="Every date mentioned, resolved by occurred_at.")
    importance: float = Field(description="From 0 (small talk) to 1 (changes a life).")
    language: str = Field(description="ISO 639-1 code of the text; 'und' if unclear.")


def enrichment_of(
    output: EnrichmentOutput,
    request: EnrichmentRequest,
    *,
    model: str,
    calls: tuple[ModelCall, ...],
) -> Enrichment:
    """The response, reduced to the bounds of `Enrichment`.

    Raises ProviderResponseInvalid if nothing readable is left of title or summary: an empty
    enrichment must not count as complete.
    """
    return Enrichment(
        title=_required(output.title, TITLE_CHARACTERS_MAX, "title"),
        summary=_required(output.summary, SUMMARY_CHARACTERS_MAX, "summary"),
        tags=_tags(output.tags),
        entities=_entities(output, request.content),
        importance=_unit_interval(output.importance),
        language=_language(output.language),
        model=model,
        calls=calls,
    )


def _required(text: str, characters_max: int, what: str) -> str:
    line = inert_line(text, characters_max=characters_max)
    if not line:
        raise ProviderResponseInvalid(f"The model's response has no {what}.")
    return line


def _tags(tags: Iterable[str]) -> tuple[str, ...]:
    unique: dict[str, None] = {}
    for tag in tags:
        line = inert_line(tag.lower(), characters_max=TAG_CHARACTERS_MAX).lstrip("#").strip()
        if line:
            unique[line] = None
        if len(unique) == TAGS_MAX:
            break
    return tuple(unique)


def _entities(output: EnrichmentOutput, content: str) -> tuple[Entity, ...]:
    """Named things and dates together, in order of appearance; those not in the text come last."""
    unique: dict[tuple[str, EntityKind], Entity] = {}
    for entity in (*_named(output.entities), *_dated(output.dates)):
        if entity.name:
            unique.setdefault((entity.name, entity.kind), entity)
    text = content.casefold()
    places = {key: text.find(key[0].casefold()) for key in unique}
    in_order = sorted(unique, key=lambda key: math.inf if places[key] < 0 else places[key])
    return tuple(unique[key] for key in in_order[:ENTITIES_MAX])


def _named(mentions: list[EntityMention]) -> Iterable[Entity]:
    for mention in mentions[: ENTITIES_MAX * 2]:
        yield Entity(inert_line(mention.name, characters_max=NAME_CHARACTERS_MAX), mention.kind)


def _dated(mentions: list[DateMention]) -> Iterable[Entity]:
    for mention in mentions[: ENTITIES_MAX * 2]:
        name = inert_line(mention.text, characters_max=NAME_CHARACTERS_MAX)
        yield Entity(name, "date", _iso_date(mention.iso or ""))


def _iso_date(text: str) -> str | None:
    """The text itself if it is a valid day, month or year."""
    match = _PARTIAL_DATE.fullmatch(text.strip())
    if match is None or not match[0].isascii():
        return None
    try:
        date(int(match[1]), int(match[2] or 1), int(match[3] or 1))
    except ValueError:
        return None
    return match[0]


def _unit_interval(value: float) -> float:
    # NaN carries no information about importance: use the middle.
    return 0.5 if math.isnan(value) else min(max(value, 0.0), 1.0)


def _language(code: str) -> str:
    """Without region and script ("de-AT", "zh_Hant")."""
    base = re.split(r"[-_]", code.strip().lower(), maxsplit=1)[0]
    return base if base in _LANGUAGES else UNKNOWN_LANGUAGE
