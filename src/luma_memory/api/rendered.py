"""Contexts as JSON, written once for as long as they are kept.

A context kept in this process is the same object at each hit, and writing it anew is the largest
part of answering.
"""

from __future__ import annotations

import weakref

from luma_memory.api.wire import context_circumstances, context_content
from luma_memory.domain.context import Context, ContextRequest, ContextResult


class RenderedContexts:
    """The JSON of answers (protocol.context.ContextResponse)."""

    def __init__(self) -> None:
        # By identity: equal contexts are rare, and comparing them costs more than writing one.
        self._kept: dict[int, tuple[weakref.ref[Context], bytes]] = {}

    def render(self, answer: ContextResult, request: ContextRequest, *, counted_by: str) -> bytes:
        """The whole answer; what it says is taken from the last time this context was told."""
        circumstances = context_circumstances(answer, request, counted_by=counted_by)
        told = circumstances.model_dump_json().encode()
        return self._content(answer.context)[:-1] + b"," + told[1:]

    def _content(self, context: Context) -> bytes:
        name = id(context)
        if (kept := self._kept.get(name)) is not None:
            return kept[1]
        written = context_content(context).model_dump_json().encode()
        # Forgotten before another object can have the same id.
        self._kept[name] = weakref.ref(context, lambda _: self._kept.pop(name, None)), written
        return written
