"""The tools: what a model reads about each, and what each does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mcp_types import CallToolResult, ToolAnnotations
from mcp_types import Tool as ToolDescription
from pydantic import BaseModel

from luma_memory.mcp import arguments as given
from luma_memory.mcp import results
from luma_memory.mcp.memory import SOURCE, Memory
from luma_memory.mcp.schemas import compact_schema
from luma_memory.protocol.blocks import BatchItem, BlockEditBody, NewBlockBody

ERROR_CHARACTERS_MAX: Final = 300
_NOTHING: Final = "Nothing is remembered about this."
_TITLE_CHARACTERS: Final = 80

Run = Callable[[Memory, Any, results.Bounds], Awaitable[CallToolResult]]


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool: its description for a model, and the function behind it."""

    name: str
    description: str
    arguments: type[BaseModel]
    result: type[BaseModel]
    run: Run
    reads: bool  # changes nothing
    destroys: bool = False

    def described(self) -> ToolDescription:
        """As listed to a host."""
        return ToolDescription(
            name=self.name,
            description=self.description,
            input_schema=compact_schema(self.arguments),
            output_schema=compact_schema(self.result, output=True),
            annotations=ToolAnnotations(
                read_only_hint=self.reads,
                destructive_hint=self.destroys,
                idempotent_hint=True,
                open_world_hint=False,
            ),
        )


async def _search(
    memory: Memory, call: given.SearchArguments, bounds: results.Bounds
) -> CallToolResult:
    response = await memory.search(
        memory.user(call.user_id), call.query, limit=call.limit, filters=call.filters
    )
    items = [
        results.memory_item(
            hit.block, characters=bounds.preview_characters, relevance=hit.relevance
        )
        for hit in response.results
    ]
    result = results.SearchResult(
        memories=[], relevant=response.relevant, degraded=response.degraded
    )
    shown = results.fitting(items, bounds.copy_bytes - results.size_bytes(result))
    result.memories, result.omitted = list(shown), len(items) - len(shown)
    more = results.links(items[len(shown) :], user_id=call.user_id, bytes_max=bounds.links_bytes)
    return results.tool_result(result, more=more)


async def _context(
    memory: Memory, call: given.ContextArguments, bounds: results.Bounds
) -> CallToolResult:
    response = await memory.context(
        memory.user(call.user_id),
        call.query,
        token_budget=call.token_budget,
        token_budget_max=bounds.tokens,
    )
    result = results.ContextResult(
        text=response.text,
        relevant=response.relevant,
        ids=[str(block.id) for block in response.blocks],
        degraded=response.degraded,
    )
    text = f"{results.NOTICE}\n{response.text}" if response.text else _NOTHING
    return results.tool_result(result, text=text)


async def _add(memory: Memory, call: given.AddArguments, _bounds: results.Bounds) -> CallToolResult:
    user_id = memory.user(call.user_id)
    messages = call.messages or [given.Message(content=call.content or "")]
    blocks = []
    for message in messages:
        # Only fields that are set: an unset time means now, in a request that is repeated as well.
        fields: dict[str, Any] = {
            "speaker": message.role,
            "session_id": call.session_id,
            "occurred_at": call.occurred_at,
            "metadata": call.metadata,
        }
        given_fields = {name: value for name, value in fields.items() if value is not None}
        blocks.append(
            NewBlockBody(user_id=user_id, content=message.content, source=SOURCE, **given_fields)
        )
    added = [_added(item) for item in await memory.add(blocks)]
    outcome = results.tool_result(results.AddResult(memories=added))
    # A host must not take a loss for a success.
    failed = all(item.error is not None for item in added)
    return outcome.model_copy(update={"is_error": True}) if failed else outcome


def _added(item: BatchItem) -> results.AddedItem:
    return results.AddedItem(
        id=None if item.id is None else str(item.id),
        job_id=item.job_id,
        status=item.status,
        duplicate=bool(item.duplicate),
        error=None if item.error is None else item.error.code,
    )


async def _get(memory: Memory, call: given.GetArguments, bounds: results.Bounds) -> CallToolResult:
    block = await memory.get(memory.user(call.user_id), call.id)
    return results.tool_result(results.block_result(block, offset=call.offset, bounds=bounds))


async def _update(
    memory: Memory, call: given.UpdateArguments, _bounds: results.Bounds
) -> CallToolResult:
    fields = {"content": call.content, "occurred_at": call.occurred_at, "metadata": call.metadata}
    changes = {name: value for name, value in fields.items() if value is not None}
    block = await memory.edit(memory.user(call.user_id), call.id, BlockEditBody(**changes))
    result = results.UpdateResult(id=str(block.id), status=block.status, revision=block.revision)
    return results.tool_result(result)


async def _delete(
    memory: Memory, call: given.DeleteArguments, bounds: results.Bounds
) -> CallToolResult:
    block = await memory.delete(memory.user(call.user_id), call.id)
    result = results.DeleteResult(deleted=str(call.id))
    if block is not None:
        result.text = results.preview(block.content, bounds.preview_characters)[0]
        result.occurred_at = results.instant_text(block.occurred_at)
    return results.tool_result(result)


async def _job(memory: Memory, call: given.JobArguments, _bounds: results.Bounds) -> CallToolResult:
    job = await memory.job(call.user_id, call.id)
    error = job.last_error and job.last_error[:ERROR_CHARACTERS_MAX]
    result = results.JobResult(
        id=job.id,
        status=job.status,
        error=error or None,
    )
    return results.tool_result(result)


async def _twin_search(
    memory: Memory, call: given.TwinSearchArguments, _bounds: results.Bounds
) -> CallToolResult:
    response = await memory.search(memory.user(None), call.query, limit=10, filters=None)
    hits = [
        results.TwinHit(
            id=str(hit.block.id),
            title=results.preview(hit.block.title or hit.block.content, _TITLE_CHARACTERS)[0],
            url=results.block_uri(hit.block.id, user_id=None),
        )
        for hit in response.results
    ]
    return results.tool_result(results.TwinSearchResult(results=hits))


async def _twin_fetch(
    memory: Memory, call: given.TwinFetchArguments, bounds: results.Bounds
) -> CallToolResult:
    block = await memory.get(memory.user(None), call.id)
    shown = results.block_result(block, offset=0, bounds=bounds)
    about = {"occurred_at": shown.occurred_at, "speaker": shown.speaker, "source": shown.source}
    document = results.TwinDocument(
        id=shown.id,
        title=results.preview(block.title or block.content, _TITLE_CHARACTERS)[0],
        url=results.block_uri(shown.id, user_id=None),
        text=shown.text,
        metadata={name: value for name, value in about.items() if value},
    )
    return results.tool_result(document)


# In the order hosts see them: reading before writing, the most used first.
TOOLS: Final[Sequence[Tool]] = (
    Tool(
        "search_memories",
        "Find remembered facts, preferences, decisions. Use it before answering about the user,"
        " their work or the past; not for general knowledge. Returns previews; get_memory has"
        " whole texts. relevant=false: nothing fits.",
        given.SearchArguments,
        results.SearchResult,
        _search,
        reads=True,
    ),
    Tool(
        "get_context",
        "One text of the memories relevant to a task, within a token budget. Use it at the start;"
        " use search_memories for single facts.",
        given.ContextArguments,
        results.ContextResult,
        _context,
        reads=True,
    ),
    Tool(
        "add_memory",
        "Remember what will matter later: a fact, preference or decision the user stated. Not for"
        " secrets, guesses or known facts. Repeating is safe (duplicate=true).",
        given.AddArguments,
        results.AddResult,
        _add,
        reads=False,
    ),
    Tool(
        "get_memory",
        "One memory with its whole text, by id.",
        given.GetArguments,
        results.BlockResult,
        _get,
        reads=True,
    ),
    Tool(
        "update_memory",
        "Correct a wrong record. If the facts changed, use add_memory.",
        given.UpdateArguments,
        results.UpdateResult,
        _update,
        reads=False,
        destroys=True,
    ),
    Tool(
        "delete_memory",
        "Delete one memory for good. Only if the user asks to forget it; search first.",
        given.DeleteArguments,
        results.DeleteResult,
        _delete,
        reads=False,
        destroys=True,
    ),
    Tool(
        "get_job_status",
        "Whether an added memory is enriched. Rarely needed.",
        given.JobArguments,
        results.JobResult,
        _job,
        reads=True,
    ),
)
# For hosts that search only through tools of these names and shapes.
TWINS: Final[Sequence[Tool]] = (
    Tool(
        "search",
        "Search the user's memories.",
        given.TwinSearchArguments,
        results.TwinSearchResult,
        _twin_search,
        reads=True,
    ),
    Tool(
        "fetch",
        "One memory found by search, by id.",
        given.TwinFetchArguments,
        results.TwinDocument,
        _twin_fetch,
        reads=True,
    ),
)


def offered_tools(*, read_only: bool, search_fetch: bool) -> Sequence[Tool]:
    """The tools of one configuration, in their order."""
    offered = [*TOOLS, *(TWINS if search_fetch else ())]
    return [tool for tool in offered if tool.reads or not read_only]
