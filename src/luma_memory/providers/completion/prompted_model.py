"""The common part of every step done by a model: the models, a prompt, a response schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Generic

from luma_memory.providers.completion.prompts import prompt_text
from luma_memory.providers.completion.structured_call import OutputT, StructuredCall, Target

# A response within its bounds has about 1,500; the rest is for models that reason first.
OUTPUT_TOKENS_MAX: Final = 6_000


class PromptedModel(Generic[OutputT]):
    """A structured call with one prompt. A subclass names the prompt and the response schema.

    No retry: that is the caller's decision.
    """

    prompt: str
    output: type[OutputT]

    def __init__(self, targets: Sequence[Target]) -> None:
        """targets: at least one, in order of preference. Opens no connection yet."""
        self._targets = targets
        self._call = StructuredCall(
            targets,
            self.output,
            instructions=prompt_text(self.prompt),
            output_tokens_max=OUTPUT_TOKENS_MAX,
        )

    @property
    def name(self) -> str:
        """The preferred model and the version of the prompt."""
        return self.name_of(self._targets[0].model.id)

    def name_of(self, model_id: str) -> str:
        return f"{model_id}+{self.prompt}"

    async def close(self) -> None:
        for target in self._targets:
            await target.model.close()
