"""One request to a list of models, one typed response.

Everything around a model call happens here and nowhere else: the circuit breaker, the fallback from
one model to the next, the record of what each call used, and the span.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from luma_memory.domain.cut_off import in_progress
from luma_memory.domain.enrichment import ModelCall
from luma_memory.domain.errors import (
    LumaMemoryError,
    ProviderPaused,
    ProviderResponseInvalid,
    RateLimited,
)
from luma_memory.providers.breaker import Breaker
from luma_memory.providers.completion.question import CompletionModel, Question, Reply
from luma_memory.providers.fault_translation import provider_faults, refused
from luma_memory.telemetry import spans

OutputT = TypeVar("OutputT", bound=BaseModel)
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Target:
    """A model to call. breaker: None for a process that calls it once, such as a check."""

    model: CompletionModel
    breaker: Breaker | None = None


@dataclass(frozen=True, slots=True)
class ParsedResponse(Generic[OutputT]):
    """A parsed response."""

    output: OutputT
    model_id: str  # the model that wrote it
    calls: tuple[ModelCall, ...]  # of every model that was called, the successful one last


class StructuredCall(Generic[OutputT]):
    """The same instructions and the same response schema for every message.

    After a model fails for any reason, the next one is called within the same attempt: at
    most one call for each model and attempt, and no retry. If all fail, the caller gets the
    shortest wait that one of them requested, else the error that another attempt may resolve, else
    the first one.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        output: type[OutputT],
        *,
        instructions: str,
        output_tokens_max: int,
    ) -> None:
        """Prepare the calls; nothing is sent yet. targets: at least one, in order of preference."""
        question = Question(instructions, output, output_tokens_max)
        self._steps = [(target.breaker, _ModelStep(target.model, question)) for target in targets]
        self._output = output

    async def __call__(
        self, message: str, read: Callable[[ParsedResponse[OutputT]], ResultT]
    ) -> ResultT:
        """The result of `read` for the first usable response.

        read: may raise ProviderResponseInvalid, which counts as a failure of that model.
        Raises as `Embedder.embed_documents`; a refusal has the code `provider_refused`. The error
        carries the calls: a response that cannot be used costs as much as one that can.
        """
        errors: list[LumaMemoryError] = []
        calls: list[ModelCall] = []

        for breaker, step in self._steps:

            async def result(step: _ModelStep = step) -> ResultT:
                return await self._result(step, message, calls, read)

            try:
                return await (result() if breaker is None else breaker.call(result))
            except LumaMemoryError as error:
                errors.append(error)
        decisive = _decisive(errors)
        decisive.calls = calls
        raise decisive

    async def _result(
        self,
        step: _ModelStep,
        message: str,
        calls: list[ModelCall],
        read: Callable[[ParsedResponse[OutputT]], ResultT],
    ) -> ResultT:
        """Adds the call to `calls`, also if it fails."""
        calls.append(ModelCall(step.model_id))
        with spans.span(step.span_name, kind="client", values=step.span_values) as span:
            with in_progress(calls[-1]):
                reply = await step.ask(message)
            calls[-1] = ModelCall(step.model_id, reply.input_tokens, reply.output_tokens)
            _describe(span, message, reply)
            if reply.is_refused:
                raise refused()
            with provider_faults():
                output = self._output.model_validate_json(_json_of(reply.text))
            return read(ParsedResponse(output, step.model_id, tuple(calls)))


class _ModelStep:
    """A prepared call of one model."""

    def __init__(self, model: CompletionModel, question: Question) -> None:
        vendor, _, name = model.id.partition("/")
        self.model_id = model.id
        self.ask = model.prepared(question)
        self.span_name = f"chat {name}"
        self.span_values = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": vendor,
            "gen_ai.request.model": name,
            "gen_ai.request.max_tokens": question.output_tokens_max,
            "luma.answer": question.output.__name__,
        }


def _decisive(errors: Sequence[LumaMemoryError]) -> LumaMemoryError:
    waits = [error for error in errors if isinstance(error, RateLimited | ProviderPaused)]
    if len(waits) == len(errors):
        limits = [error for error in waits if isinstance(error, RateLimited)]
        return min(limits or waits, key=lambda error: error.retry_after_seconds)
    failures = [error for error in errors if not isinstance(error, RateLimited | ProviderPaused)]
    # A model was called and failed: that is an attempt. If it refused permanently and another one
    # only requests a pause, a later attempt may succeed.
    retryable = [error for error in failures if error.retryable]
    return next(iter(retryable or waits or failures))


def _describe(span: spans.Span, message: str, reply: Reply) -> None:
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
    """One message in the form of OpenTelemetry's conventions for generative AI."""
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


def _json_of(text: str) -> str:
    # Services without schema support often wrap the object in a Markdown fence.
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise ProviderResponseInvalid("The model's response holds no JSON object.")
    return text[start : end + 1]
