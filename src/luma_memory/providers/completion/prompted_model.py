"""What every step made by a model is built of: a model, a prompt, a shape of answer."""

from __future__ import annotations

from typing import Final, Generic

from luma_memory.providers.api_key import ApiKey
from luma_memory.providers.completion.completion_model import completion_model
from luma_memory.providers.completion.prompts import prompt_text
from luma_memory.providers.completion.structured_call import AnswerT, StructuredCall

# An answer within its bounds has about 1,500; the rest is for models that think before they write.
OUTPUT_TOKENS_MAX: Final = 6_000


class PromptedModel(Generic[AnswerT]):
    """One structured call over any service that speaks OpenAI's protocol, or another vendor's.

    No retry: whether and when to try again is the caller's to decide. A subclass names the prompt
    and the shape of the answer.
    """

    prompt: str
    answer: type[AnswerT]

    def __init__(
        self,
        *,
        model: str,
        api_key: ApiKey,
        base_url: str | None = None,
        model_id: str | None = None,
        timeout_seconds: float = 25.0,
    ) -> None:
        """Opens no connection yet.

        model: see `completion_model`. model_id: how results name it; "openai/" and the model's name
        unless told otherwise. timeout_seconds: for the whole call.
        Raises SetupError for a model, key or address that cannot be used.
        """
        completion = completion_model(
            model, api_key=api_key, base_url=base_url, timeout_seconds=timeout_seconds
        )
        self._close = completion.close
        self._model_id = model_id or completion.id
        self._call = StructuredCall(
            completion,
            self.answer,
            instructions=prompt_text(self.prompt),
            output_tokens_max=OUTPUT_TOKENS_MAX,
        )

    @property
    def model_id(self) -> str:
        """The model without the prompt."""
        return self._model_id

    @property
    def name(self) -> str:
        return f"{self._model_id}+{self.prompt}"

    async def close(self) -> None:
        await self._close()
