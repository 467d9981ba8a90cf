"""POST /chat/completions: completions of any service that speaks OpenAI's protocol.

Called without the vendor's library and pydantic-ai's model, which take 4 ms of processor time per
call, mostly for work that every call repeats: here the request is constant bytes around the
message, and only what is needed is read from the response.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import BaseModel, Field

from luma_memory.providers.api_key import ApiKey
from luma_memory.providers.completion.question import Ask, Question, Reply, bounded_tokens
from luma_memory.providers.completion.strict_schema import strict_schema
from luma_memory.providers.fault_translation import provider_faults
from luma_memory.providers.service_client import ServiceClient

# A whole enrichment is a few kilobytes; models that write their reasoning write more. Each
# concurrent call may take this much memory.
BODY_BYTES_MAX: Final = 1024 * 1024
_THOUGHT_END: Final = "</think>"


class ChatCompletions:
    """`CompletionModel` of one account at one service."""

    def __init__(
        self, model: str, *, api_key: ApiKey, base_url: str | None, timeout_seconds: float
    ) -> None:
        """timeout_seconds: for the whole call. Raises SetupError as `ServiceClient`."""
        self._model = model
        self._client = ServiceClient(
            api_key=api_key,
            base_url=base_url,
            timeout_seconds=timeout_seconds,
            body_bytes_max=BODY_BYTES_MAX,
        )

    @property
    def id(self) -> str:
        return f"openai/{self._model}"

    def prepared(self, question: Question) -> Ask:
        """The service itself enforces the output's JSON schema."""
        head, tail = _request_around_message(self._model, question)

        async def ask(message: str) -> Reply:
            body = b"".join((head, json.dumps(message, ensure_ascii=False).encode(), tail))
            with provider_faults():
                # Nothing but the parser refers to the response's body: an error keeps the variables
                # of its frames.
                return _reply(
                    _Completion.model_validate_json(
                        await self._client.post("chat/completions", body)
                    )
                )

        return ask

    async def close(self) -> None:
        await self._client.close()


def _request_around_message(model: str, question: Question) -> tuple[bytes, bytes]:
    output, placeholder = question.output, "\x00"
    shape = {
        "name": output.__name__,
        "description": output.__doc__ or "",
        "schema": strict_schema(output),
        "strict": True,
    }
    request = {
        "model": model,
        "max_completion_tokens": question.output_tokens_max,
        "response_format": {"type": "json_schema", "json_schema": shape},
        "messages": [
            {"role": "system", "content": question.instructions},
            {"role": "user", "content": placeholder},
        ],
    }
    head, _, tail = json.dumps(request).partition(json.dumps(placeholder))
    return head.encode(), tail.encode()


class _Message(BaseModel):
    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    model: str | None = None
    usage: object = None


def _reply(completion: _Completion) -> Reply:
    choice = completion.choices[0]
    usage = completion.usage if isinstance(completion.usage, dict) else {}
    return Reply(
        _text_of(choice.message),
        is_refused=bool(choice.message.refusal) or choice.finish_reason == "content_filter",
        model=completion.model,
        input_tokens=bounded_tokens(usage.get("prompt_tokens")),
        output_tokens=bounded_tokens(usage.get("completion_tokens")),
    )


def _text_of(message: _Message) -> str:
    """Without the reasoning that some services' models write first."""
    content = message.content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if part.get("type") == "text")
        content = "".join(part for part in parts if isinstance(part, str))
    return (content or "").rpartition(_THOUGHT_END)[2]
