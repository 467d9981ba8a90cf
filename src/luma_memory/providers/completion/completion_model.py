"""From the name of a completion model to the object that calls it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.settings import ModelSettings

from luma_memory.domain.errors import SetupError
from luma_memory.providers.openai_client import ApiKey, openai_client

# A whole enrichment is a few kilobytes; models that think aloud write more.
BODY_BYTES_MAX: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CompletionModel:
    """A model ready to be called, with its own connections."""

    model: Model
    id: str  # "vendor/model"
    close: Callable[[], Awaitable[None]]
    settings: ModelSettings = field(default_factory=ModelSettings)  # for every call of it
    speaks_openai: bool = False  # whether its requests are OpenAI's chat completions


def completion_model(
    name: str, *, api_key: ApiKey, base_url: str | None, timeout_seconds: float
) -> CompletionModel:
    """`name` is a model of the service at `base_url` (None: OpenAI), or "vendor:model" of another
    vendor.

    With a base URL the name is taken as it stands: local services have colons in theirs
    ("qwen3:8b"). Another vendor's key and address come from where its library looks for them.
    Raises SetupError for a vendor that is not known or not installed.
    """
    vendor, _, model = name.partition(":")
    if base_url is None and model and vendor not in {"openai", "ft"}:
        return _of_other_vendor(name, vendor, model)
    plain = model if vendor == "openai" and model else name
    return _openai_compatible(
        plain, api_key=api_key, base_url=base_url, timeout_seconds=timeout_seconds
    )


def _openai_compatible(
    name: str, *, api_key: ApiKey, base_url: str | None, timeout_seconds: float
) -> CompletionModel:
    client = openai_client(
        api_key=api_key,
        base_url=base_url,
        timeout_seconds=timeout_seconds,
        body_bytes_max=BODY_BYTES_MAX,
    )
    # The second leaves out what only OpenAI's own service understands.
    provider = (
        OpenAIProvider(openai_client=client)
        if base_url is None
        else OpenAICompatibleProvider("openai-compatible", openai_client=client)
    )
    return CompletionModel(
        OpenAIChatModel(name, provider=provider),
        id=f"openai/{name}",
        close=client.close,
        speaks_openai=True,
    )


def _of_other_vendor(name: str, vendor: str, model: str) -> CompletionModel:
    try:
        inferred = infer_model(name)
    except (UserError, ImportError, ValueError) as error:
        raise SetupError(
            f"The completion model {name} cannot be used: its vendor is unknown, its library is "
            "not installed, or its key is missing."
        ) from error

    async def close() -> None:
        # Entering and leaving is the library's way to close what its provider opened.
        async with inferred:
            pass

    # Their clients retry unless told not to. OpenAI's is told when made: this copies it every call.
    settings = ModelSettings(max_retries=0)
    return CompletionModel(inferred, id=f"{vendor}/{model}", close=close, settings=settings)
