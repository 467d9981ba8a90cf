"""The messages of an add as blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from luma_memory.api.mem0.bodies import MESSAGES_MAX, AddBody
from luma_memory.api.mem0.memories import APP_ID
from luma_memory.api.mem0.not_offered import not_offered
from luma_memory.api.mem0.owners import ID_FIELDS, chosen_owner
from luma_memory.api.problems import field_problem
from luma_memory.domain.access import Caller
from luma_memory.domain.block import NewBlock
from luma_memory.domain.errors import Invalid
from luma_memory.protocol.blocks import NewBlockBody
from luma_memory.protocol.mapping import new_block

SOURCE: Final = "mem0"
# Instructions to a model and results of tools are no statements of anyone.
_INFERRED_ROLES: Final = ("user", "assistant")
_SKIPPED_ROLES: Final = ("system", "developer")
_ROLES: Final = (*_INFERRED_ROLES, *_SKIPPED_ROLES, "tool", "function")


def new_blocks(
    body: AddBody, *, caller: Caller, header_key: str | None, now: datetime
) -> Sequence[NewBlock]:
    """A block for each message with a text, in their order; at least one.

    Raises Invalid, Forbidden and NotOffered.
    """
    ids = _ids(body)
    owner = chosen_owner(ids, caller)
    metadata = dict(body.metadata or {})
    if ids["app_id"] is not None:
        metadata[APP_ID] = ids["app_id"]
    shared = {
        "user_id": owner.user_id,
        "agent_id": ids["agent_id"],
        "session_id": ids["run_id"],
        "source": SOURCE,
        "metadata": metadata,
        "occurred_at": body.timestamp,
        "expires_at": body.expiration_date,
    }
    texts = _texts(body)
    if not texts:
        raise Invalid(
            "messages must have a text of the user or the assistant",
            code="messages_empty",
            field="messages",
        )
    return [
        new_block(
            _checked({**shared, "speaker": speaker, "content": text}, number),
            caller=caller,
            header_key=None if header_key is None else f"{header_key}:{number}",
            now=now,
        )
        for number, (speaker, text) in enumerate(texts)
    ]


def _ids(body: AddBody) -> dict[str, str | None]:
    """The ids of the body, or of its filters where they are given there."""
    ids = dict(body.ids)
    for name, value in (body.filters or {}).items():
        if name not in ID_FIELDS or not isinstance(value, str) or not value:
            raise Invalid(
                f"filters of an add may hold {', '.join(ID_FIELDS)} only, each one id",
                code="invalid_filter",
                field="filters",
            )
        if ids[name] not in (None, value):
            raise Invalid(f"{name} is given twice", code="invalid_filter", field=f"filters.{name}")
        ids[name] = value
    return ids


def _texts(body: AddBody) -> Sequence[tuple[str, str]]:
    """Speakers and texts."""
    messages = body.messages
    if isinstance(messages, str):
        return [("user", messages)]
    listed = messages if isinstance(messages, list) else [messages]
    if len(listed) > MESSAGES_MAX:
        raise Invalid(
            f"messages must be at most {MESSAGES_MAX}; add the others in another request",
            code="too_long",
            field="messages",
        )
    roles = _ROLES if body.infer is False else _INFERRED_ROLES
    texts = []
    for number, message in enumerate(listed):
        role, speaker, text = _message(message, f"messages.{number}")
        if text.strip() and role in roles and role not in _SKIPPED_ROLES:
            texts.append((speaker, text))
    return texts


def _message(message: Any, place: str) -> tuple[str, str, str]:
    """Role, speaker and text."""
    if isinstance(message, str):
        return "user", "user", message
    if not isinstance(message, Mapping):
        raise _wrong(place, "an object with role and content")
    role, name = message.get("role", "user"), message.get("name")
    if role not in _ROLES:
        raise _wrong(f"{place}.role", f"one of {', '.join(_ROLES)}")
    if name is not None and not isinstance(name, str):
        raise _wrong(f"{place}.name", "a text")
    return role, name or role, _text(message.get("content"), f"{place}.content")


def _text(content: Any, place: str) -> str:
    match content:
        case None:
            return ""  # a message that only calls tools
        case str():
            return content
        case list():
            return "\n".join(_text(part, f"{place}.{n}") for n, part in enumerate(content))
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": str()}:
            raise not_offered("messages with images or documents")
        case _:
            raise _wrong(place, "a text, or a list of parts of the type text")


def _checked(fields: dict[str, Any], number: int) -> NewBlockBody:
    try:
        return NewBlockBody.model_validate(fields)
    except ValidationError as error:
        first = field_problem(error.errors(include_url=False, include_input=False)[0])
        field = f"messages.{number}.content" if first.field == "content" else first.field
        raise Invalid(f"{field}: {first.detail}", code=first.code, field=field) from None


def _wrong(place: str, expected: str) -> Invalid:
    return Invalid(f"{place} must be {expected}", code="invalid_request", field=place)
