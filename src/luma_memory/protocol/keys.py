"""API keys on the wire."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.domain.access import ANONYMOUS, EVERY_PERMISSION, ApiKey, Caller, Permission
from luma_memory.protocol.validation import Name


class NewKeyBody(BaseModel):
    """An API key to create, of the caller's project."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"permissions": ["ingest", "read"], "name": "chat-backend"}]
        },
    )

    permissions: list[Permission] = Field(
        min_length=1,
        max_length=len(EVERY_PERMISSION),
        description="`ingest` stores, edits and deletes blocks, `read` reads and searches, `admin`"
        " does the rest. At most those of the caller.",
    )
    user_id: Name | None = Field(None, description="Restrict the key to this user.")
    name: Name | None = Field(None, description="A label.")


class KeyBody(BaseModel):
    """An API key, without its secret part."""

    prefix: str = Field(description="The first part of the key; identifies it, and is not secret.")
    project_id: str
    user_id: str | None = Field(description="The only user it opens; null: all of the project.")
    name: str | None
    permissions: list[Permission]
    created_at: datetime
    last_used_at: datetime | None = Field(description="Accurate to the minute.")
    revoked_at: datetime | None
    is_current: bool = Field(description="Whether this request was made with it.")
    key: str | None = Field(
        None, description="The key itself, only in the response to its creation: keep it now."
    )

    @classmethod
    def of(cls, key: ApiKey, *, caller: str, text: str | None = None) -> KeyBody:
        return cls(
            prefix=key.prefix,
            project_id=key.project_id,
            user_id=key.user_id,
            name=key.name,
            permissions=[one for one in EVERY_PERMISSION if one in key.permissions],
            created_at=key.created_at,
            last_used_at=key.last_used_at,
            revoked_at=key.revoked_at,
            is_current=key.caller.name == caller,
            key=text,
        )


class CurrentKeyBody(BaseModel):
    """What the credentials of this request permit."""

    project_id: str
    user_id: str | None = Field(description="The only user they open; null: all of the project.")
    permissions: list[Permission]
    prefix: str | None = Field(description="Of an API key; null for other credentials.")
    name: str | None = Field(description="The label of an API key.")
    authenticated: bool = Field(description="false: the service needs no credentials.")

    @classmethod
    def of(cls, caller: Caller, key: ApiKey | None) -> CurrentKeyBody:
        return cls(
            project_id=caller.project_id,
            user_id=caller.user_id,
            permissions=[one for one in EVERY_PERMISSION if one in caller.permissions],
            prefix=key and key.prefix,
            name=key and key.name,
            authenticated=caller is not ANONYMOUS,
        )


class KeyPageBody(BaseModel):
    """API keys, newest first."""

    keys: list[KeyBody]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page.")
