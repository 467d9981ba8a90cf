"""Settings of the service on the wire, to read only."""

from __future__ import annotations

from pydantic import BaseModel, Field


class SettingBody(BaseModel):
    """One setting. Addresses are shown without credentials."""

    name: str = Field(description="The environment variable.")
    value: str | None = Field(description="null: it has none, or it is secret.")
    default: str | None
    description: str
    group: str
    is_secret: bool
    is_set: bool = Field(description="Whether it has a value other than its default.")


class SettingListBody(BaseModel):
    """All settings of the process that responds, in the order of docs/settings.md."""

    settings: list[SettingBody]
