"""API keys, as clients take them."""

from __future__ import annotations

from typing import Protocol, TypeAlias


class SecretText(Protocol):
    """A secret whose repr hides it, such as pydantic's `SecretStr`."""

    def get_secret_value(self) -> str: ...


ApiKey: TypeAlias = "str | SecretText | None"


def revealed(api_key: ApiKey) -> str:
    """The key itself, empty without one."""
    key = api_key if isinstance(api_key, str | None) else api_key.get_secret_value()
    return (key or "").strip()
