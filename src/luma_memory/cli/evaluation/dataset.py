"""The data format memory-retrieval/1: conversations, and questions with their evidence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from luma_memory.domain.errors import Invalid


class _Record(BaseModel):
    """Validates known fields strictly; ignores fields of a later minor version."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class Item(_Record):
    """One dialog turn: one memory."""

    id: str = Field(min_length=1)
    session: str
    speaker: str
    text: str
    caption: str | None = None
    time: datetime | None = None  # start of the session, usually without a time zone

    @property
    def content(self) -> str:
        """The text a system stores."""
        caption = f" [image: {self.caption}]" if self.caption else ""
        return f"{self.speaker}: {self.text}{caption}"

    @property
    def occurred_at(self) -> datetime | None:
        """`time` as an aware instant; without a zone it is taken as UTC."""
        if self.time is None or self.time.tzinfo is not None:
            return self.time
        return self.time.replace(tzinfo=UTC)


class Query(_Record):
    """One question and the ids of the items that contain its answer."""

    id: str = Field(min_length=1)
    text: str = Field(min_length=1)
    category: str
    group: str
    evidence: Sequence[str]  # empty: not answerable from the items; then it is not scored
    answer: str | None = None


class Conversation(_Record):
    """Items stored together in one empty scope, and the questions about them."""

    id: str = Field(min_length=1)
    speakers: Sequence[str]
    items: Sequence[Item]  # in the order they were said; ids unique
    queries: Sequence[Query]

    @model_validator(mode="after")
    def _ids_agree(self) -> Conversation:
        known = {item.id for item in self.items}
        if len(known) != len(self.items):
            raise ValueError("two items have the same id")
        for query in self.queries:
            if unknown := sorted(set(query.evidence) - known):
                raise ValueError(f"query {query.id} names evidence that is no item: {unknown}")
        return self


class Dataset(_Record):
    """One file."""

    format: Literal["memory-retrieval/1"]
    name: str
    license: str = ""
    source: str = ""
    conversations: Sequence[Conversation]


def read_dataset(document: bytes | str) -> Dataset:
    """The data set in a JSON document.

    Raises Invalid (code `invalid_dataset`) with the first invalid place.
    """
    try:
        return Dataset.model_validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "document"
        raise Invalid(
            f"not a memory-retrieval/1 file: {place}: {first['msg']}",
            code="invalid_dataset",
            field=place,
        ) from error
