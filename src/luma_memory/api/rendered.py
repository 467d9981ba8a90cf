"""Contexts serialized to JSON once for as long as they are cached.

A context cached in this process is the same object at each hit, and serializing it would be the
largest part of a response's cost.
"""

from __future__ import annotations

import weakref

from luma_memory.domain.context import Context, ContextRequest, ContextResult
from luma_memory.protocol.mapping import context_circumstances, context_content


class RenderedContexts:
    """The JSON of protocol.context.ContextResponse."""

    def __init__(self) -> None:
        # By identity: equal contexts are rare, and comparing them costs more than serializing one.
        self._kept: dict[int, tuple[weakref.ref[Context], bytes]] = {}

    def render(self, result: ContextResult, request: ContextRequest, *, counted_by: str) -> bytes:
        """The whole response; the context's own JSON is reused from an earlier call."""
        circumstances = context_circumstances(result, request, counted_by=counted_by)
        metadata = circumstances.model_dump_json().encode()
        return self._content(result.context)[:-1] + b"," + metadata[1:]

    def _content(self, context: Context) -> bytes:
        name = id(context)
        if (kept := self._kept.get(name)) is not None:
            return kept[1]
        written = context_content(context).model_dump_json().encode()
        # Dropped before another object can have the same id.
        self._kept[name] = weakref.ref(context, lambda _: self._kept.pop(name, None)), written
        return written
