"""One question to a model, one typed answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from luma_memory.domain.cut_off import under_way
from luma_memory.domain.enrichment import ModelCall
from luma_memory.domain.errors import LumaMemoryError, ProviderResponseInvalid
from luma_memory.providers.completion.question import CompletionModel, Question, Reply
from luma_memory.providers.fault_translation import provider_faults, refused
from luma_memory.telemetry import spans

AnswerT = TypeVar("AnswerT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Answered(Generic[AnswerT]):
    """What the model said and what it cost."""

    answer: AnswerT
    call: ModelCall


class StructuredCall(Generic[AnswerT]):
    """A prepared question: the same instructions and the same shape of answer for every message."""

    def __init__(
        self,
        model: CompletionModel,
        answer: type[AnswerT],
        *,
        instructions: str,
        output_tokens_max: int,
    ) -> None:
        """Prepare the call; nothing is sent yet."""
        self._ask = model.prepared(Question(instructions, answer, output_tokens_max))
        self._model_id = model.id
        self._answer = answer
        vendor, _, name = model.id.partition("/")
        self._span_name = f"chat {name}"
        self._span_values = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": vendor,
            "gen_ai.request.model": name,
            "gen_ai.request.max_tokens": output_tokens_max,
            "luma.answer": answer.__name__,
        }

    async def __call__(self, message: str) -> Answered[AnswerT]:
        """Raises as `Embedder.embed_documents`; a refusal is `provider_refused`.

        The error knows the call too: an answer that does not fit costs as much as one that does.
        """
        with spans.span(self._span_name, kind="client", values=self._span_values) as span:
            return await self._answered(message, span)

    async def _answered(self, message: str, span: spans.Span) -> Answered[AnswerT]:
        call = ModelCall(self._model_id)
        try:
            with under_way(call):
                reply = await self._ask(message)
            call = ModelCall(self._model_id, reply.input_tokens, reply.output_tokens)
            _tell_span(span, message, reply)
            if reply.is_refused:
                raise refused()
            with provider_faults():
                answer = self._answer.model_validate_json(_json_of(reply.text))
        except LumaMemoryError as error:
            error.calls = (call,)
            raise
        return Answered(answer, call)


def _tell_span(span: spans.Span, message: str, reply: Reply) -> None:
    span.set(
        {
            "gen_ai.response.model": reply.model,
            "gen_ai.usage.input_tokens": reply.input_tokens,
            "gen_ai.usage.output_tokens": reply.output_tokens,
        }
    )
    span.content(
        lambda: {
            "gen_ai.input.messages": _as_messages("user", message),
            "gen_ai.output.messages": _as_messages("assistant", reply.text),
        }
    )


def _as_messages(role: str, text: str) -> str:
    """One message as OpenTelemetry writes those of models."""
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


def _json_of(text: str) -> str:
    # Services that do not know schemas like to wrap the object in a Markdown fence.
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise ProviderResponseInvalid("The model's answer holds no JSON object.")
    return text[start : end + 1]
