"""Completions of vendors with a protocol of their own, through pydantic-ai."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from inspect import signature
from typing import Any

import httpx2
from pydantic_ai import exceptions as ai
from pydantic_ai.direct import model_request
from pydantic_ai.messages import InstructionPart, ModelRequest, ModelResponse, UserPromptPart
from pydantic_ai.models import Model, ModelRequestParameters, infer_model
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.providers import Provider, infer_provider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from luma_memory.domain.errors import LumaMemoryError, SetupError
from luma_memory.providers.completion.chat_completions import BODY_BYTES_MAX
from luma_memory.providers.completion.question import Ask, Question, Reply, bounded_tokens
from luma_memory.providers.fault_translation import (
    error_of_response,
    not_in_time,
    provider_faults,
    refused,
    translated,
    unreachable,
)
from luma_memory.providers.http_client import provider_http_client
from luma_memory.providers.http_fault import HttpFault, lower_words, message_of


class VendorModel:
    """`CompletionModel` by the name the library gives it, "vendor:model".

    The library's request layer, not its agent: there is no dialogue, no tool and no retry.
    """

    def __init__(self, name: str, *, timeout_seconds: float) -> None:
        """Key and address are read from where the vendor's library expects them.

        Raises SetupError for a vendor that is not known or not installed, or whose key is missing.
        """
        vendor, _, model = name.partition(":")
        self._id = f"{vendor}/{model}"
        self._timeout_seconds = timeout_seconds
        try:
            self._model, self._close = _opened(name, timeout_seconds)
        except (ai.UserError, ImportError, ValueError) as error:
            raise SetupError(
                f"The completion model {name} cannot be used: its vendor is unknown, its library "
                "is not installed, or its key is missing."
            ) from error

    @property
    def id(self) -> str:
        return self._id

    def prepared(self, question: Question) -> Ask:
        """Enforces a JSON schema if the service supports it, else by a function call."""
        parameters = _parameters(question, self._model)
        # Their clients retry by default.
        settings = ModelSettings(max_tokens=question.output_tokens_max, max_retries=0)

        async def ask(message: str) -> Reply:
            request = ModelRequest(parts=[UserPromptPart(message)])
            with provider_faults(_vendor_fault):
                async with asyncio.timeout(self._timeout_seconds):
                    response = await model_request(
                        self._model,
                        [request],
                        model_settings=settings,
                        model_request_parameters=parameters,
                    )
                return _reply(response)

        return ask

    async def close(self) -> None:
        await self._close()


def _opened(name: str, timeout_seconds: float) -> tuple[Model, Callable[[], Awaitable[None]]]:
    """The model, and a context that closes its connections."""
    clients: list[httpx2.AsyncClient] = []

    def provider_of(vendor: str) -> Provider[Any]:
        plain = infer_provider(vendor)
        provider: Any = type(plain)
        if vendor.startswith("gateway/") or "http_client" not in signature(provider).parameters:
            return plain
        client = provider_http_client(
            plain.base_url, timeout_seconds=timeout_seconds, body_bytes_max=BODY_BYTES_MAX
        )
        # A vendor's library that is built on another HTTP library does not take this client.
        with contextlib.suppress(TypeError):
            guarded: Provider[Any] = provider(http_client=client)
            clients.append(client)
            return guarded
        return plain

    model = infer_model(name, provider_of)

    async def close() -> None:
        # The library closes its provider's connections when this context is left.
        async with model:
            pass
        for client in clients:
            await client.aclose()

    return model, close


def _parameters(question: Question, model: Model) -> ModelRequestParameters:
    output = question.output
    schema, name, about = output.model_json_schema(), output.__name__, output.__doc__
    parts = [InstructionPart(content=question.instructions)]
    if model.profile.get("supports_json_schema_output", False):
        shape = OutputObjectDefinition(schema, name=name, description=about, strict=True)
        return ModelRequestParameters(
            output_mode="native", output_object=shape, instruction_parts=parts
        )
    tool = ToolDefinition(
        name=name, description=about, parameters_json_schema=schema, strict=True, kind="output"
    )
    return ModelRequestParameters(
        output_mode="tool",
        output_tools=[tool],
        allow_text_output=False,
        instruction_parts=parts,
    )


def _reply(response: ModelResponse) -> Reply:
    usage = response.usage
    called = next((call.args_as_json_str() for call in response.tool_calls), None)
    return Reply(
        called or response.text or "",
        is_refused=response.finish_reason == "content_filter",
        model=response.model_name,
        input_tokens=bounded_tokens(usage.input_tokens),
        output_tokens=bounded_tokens(usage.output_tokens),
    )


def _vendor_fault(error: Exception) -> LumaMemoryError:
    match error:
        case ai.ModelTimeoutError() | ai.ModelRequestTimeout() | httpx2.TimeoutException():
            return not_in_time()
        case ai.ModelHTTPError():
            return error_of_response(_fault_of(error))
        case ai.ModelConnectionError() | httpx2.TransportError():
            return unreachable()
        case ai.ContentFilterError():
            return refused()
        case ai.UserError():
            return SetupError("The provider's library cannot use this model in this way.")
        case _:
            return translated(error)


def _fault_of(error: ai.ModelHTTPError) -> HttpFault:
    words: list[object] = [error.provider_error_code, error.provider_error_type]
    # The library translates the finish reasons of more vendors.
    if isinstance(error, ai.ModelQuotaExceededError):
        words.append("insufficient_quota")
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    return HttpFault(error.status_code, lower_words(words), message_of(error.body), headers)
