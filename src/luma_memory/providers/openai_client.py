"""The client of an OpenAI-compatible service, as both adapters need it."""

from __future__ import annotations

from typing import Final, Protocol, TypeAlias

from openai import AsyncOpenAI

from luma_memory.domain.errors import SetupError
from luma_memory.providers.http_client import provider_http_client

OPENAI_BASE_URL: Final = "https://api.openai.com/v1"


class SecretText(Protocol):
    """A secret that does not print itself; pydantic's `SecretStr` is one."""

    def get_secret_value(self) -> str: ...


ApiKey: TypeAlias = "str | SecretText | None"


def openai_client(
    *, api_key: ApiKey, base_url: str | None, timeout_seconds: float, body_bytes_max: int
) -> AsyncOpenAI:
    """A client without retries of its own; `await client.close()` frees its connections.

    base_url: None is OpenAI itself. api_key: None for a local service that asks for none.
    Raises SetupError for a key or an address that cannot be sent.
    """
    address = base_url or OPENAI_BASE_URL
    client = AsyncOpenAI(
        api_key=_sendable(api_key),
        base_url=address,
        max_retries=0,
        http_client=provider_http_client(
            address, timeout_seconds=timeout_seconds, body_bytes_max=body_bytes_max
        ),
    )
    # The library took these from the environment; another vendor must not get them.
    client.organization = client.project = client.admin_api_key = client.webhook_secret = None
    return client


def revealed(api_key: ApiKey) -> str:
    """The key itself, empty for none."""
    key = api_key if isinstance(api_key, str | None) else api_key.get_secret_value()
    return (key or "").strip()


def _sendable(api_key: ApiKey) -> str:
    """The key as it goes into a header; the HTTP library would quote a bad one in its error."""
    key = revealed(api_key) or "no-key"
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise SetupError("The API key has characters that cannot be sent in an HTTP header.")
    return key
