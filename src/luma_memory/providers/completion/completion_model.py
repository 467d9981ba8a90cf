"""From the name of a completion model to the object that calls it."""

from __future__ import annotations

from luma_memory.providers.api_key import ApiKey
from luma_memory.providers.completion.chat_completions import ChatCompletions
from luma_memory.providers.completion.question import CompletionModel


def completion_model(
    name: str, *, api_key: ApiKey, base_url: str | None, timeout_seconds: float
) -> CompletionModel:
    """`name` is a model of the service at `base_url` (None: OpenAI), or "vendor:model" of another
    vendor.

    With a base URL the name is used unchanged: names of local services contain colons
    ("qwen3:8b"). Another vendor's key and address are read from where its library expects them.
    Raises SetupError for a vendor that is not known or not installed.
    """
    vendor, _, model = name.partition(":")
    if base_url is None and model and vendor not in {"openai", "ft"}:
        return _of_other_vendor(name, timeout_seconds)
    plain = model if vendor == "openai" and model else name
    return ChatCompletions(
        plain, api_key=api_key, base_url=base_url, timeout_seconds=timeout_seconds
    )


def _of_other_vendor(name: str, timeout_seconds: float) -> CompletionModel:
    # Loaded on demand: importing its libraries takes two seconds.
    from luma_memory.providers.completion.other_vendors import VendorModel

    return VendorModel(name, timeout_seconds=timeout_seconds)
