"""The results and options of importers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal, TypeAlias

from luma_memory.domain.errors import Invalid

# Order of day, month and year in numeric dates.
DateOrder: TypeAlias = Literal["dmy", "mdy", "ymd"]


@dataclass(frozen=True, slots=True)
class ImportedBlock:
    """A block to store, not yet assigned to a user."""

    external_id: str  # derived from the source's id, so that importing twice stores it once
    content: str
    source: str  # the format's name
    occurred_at: datetime | None = None  # aware; None if the source has no time
    speaker: str | None = None
    session_id: str | None = None
    agent_id: str | None = None
    owner: str | None = None  # the source's own id of the user, if there is one
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SkippedItem:
    """An item of the source that is not imported."""

    where: str  # document and place: "conversations.json: message 8f2c…", "chat.txt: line 12"
    reason: str  # a stable code: hidden, tool, other_branch, media, deleted, malformed …
    detail: str = ""


Item: TypeAlias = ImportedBlock | SkippedItem


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a source does not state and its owner knows."""

    date_order: DateOrder | None = None  # None: derived from the whole file, or an error
    time_zone: tzinfo = UTC  # of times that are written without one
    starts_at: datetime | None = None  # when a recording began, for subtitles
    mapping: Mapping[str, Any] | None = None  # of generic JSON and CSV, see importers.mapped


class NeedsChoice(Invalid):
    """The file can be read in two ways; the message names the option that decides."""


class UnknownFormat(Invalid):
    """No format recognizes the file."""
