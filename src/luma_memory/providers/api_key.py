"""API keys as they are passed to a client."""

from __future__ import annotations

from typing import Protocol, TypeAlias


class SecretText(Protocol):
    """A secret that does not print itself; pydantic's `SecretStr` is one."""

    def get_secret_value(self) -> str: ...


ApiKey: TypeAlias = "str | SecretText | None"


def revealed(api_key: ApiKey) -> str:
    """The key itself, empty for none."""
    key = api_key if isinstance(api_key, str | None) else api_key.get_secret_value()
    return (key or "").strip()
