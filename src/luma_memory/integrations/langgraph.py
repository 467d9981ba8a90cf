"""A store for LangGraph and a retriever for LangChain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from luma_memory.integrations.clients import Clients
from luma_memory.integrations.item_batches import ItemBatches
from luma_memory.integrations.missing import extra_missing
from luma_memory.protocol.items import ItemBody, ItemOperationResult
from luma_memory.protocol.search import SearchResponse

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
    )
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from langgraph.store.base import (
        BaseStore,
        GetOp,
        Item,
        ListNamespacesOp,
        Op,
        PutOp,
        Result,
        SearchItem,
        SearchOp,
        TTLConfig,
        validate_op_namespace,
    )
except ModuleNotFoundError as error:
    raise extra_missing(error, "langgraph") from error

from pydantic import PrivateAttr

# Of one request.
OPERATIONS_MAX: Final = 1_000
PAGE_MAX: Final = 1_000
# Beyond every number that a value can hold.
_INFINITE: Final = 10**400
_NEVER: Final = {"$gt": _INFINITE}


class LumaStore(BaseStore):
    """LangGraph's store on the items of one user; see docs/integrations/langgraph.md.

    url, api_key: of the service. user_id: whose items; its namespaces are the store's. index: JSON
    paths of the text that is searched, None for all text of a value; `put` can choose others. ttl:
    LangGraph's configuration of times to live, in minutes.

    A batch is one request: its reads see what was stored before it, and of several writes of one
    item the last counts, as in LangGraph's own stores. New items are found by their words at once,
    and by their meaning when the service has embedded them.
    """

    supports_ttl = True
    __slots__ = ("_batches", "_clients", "_index", "_user_id", "ttl_config")

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        user_id: str = "default",
        *,
        index: Sequence[str] | None = None,
        ttl: TTLConfig | None = None,
    ) -> None:
        self._clients = Clients(url, api_key)
        self._user_id = user_id
        self._batches = ItemBatches(self._clients, user_id)
        self._index = list(index) if index is not None else None
        self.ttl_config = ttl

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Carry out operations in one request; results in their order."""
        plan = _Plan(list(ops), self._index)
        found: list[ItemOperationResult] = []
        for operations in plan.requests():
            response = self._clients.blocking.batch_items(operations, user_id=self._user_id)
            found += response.results
        return plan.results(found)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """As `batch`. Concurrent calls share requests."""
        plan = _Plan(list(ops), self._index)
        found: list[ItemOperationResult] = []
        for operations in plan.requests():
            found += await self._batches.run(operations)
        return plan.results(found)

    def close(self) -> None:
        """Close the connections of the synchronous methods."""
        self._clients.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop, too."""
        await self._clients.aclose()


class _Plan:
    """The service's operations for LangGraph's, reads first, and the way back."""

    def __init__(self, ops: Sequence[Op], index: Sequence[str] | None) -> None:
        for op in ops:
            validate_op_namespace(op)
        self._ops = ops
        self._operations: list[dict[str, Any]] = []
        self._owners: list[int] = []  # positions in ops, of each operation
        puts: dict[tuple[tuple[str, ...], str], tuple[int, PutOp]] = {}
        for position, op in enumerate(ops):
            if isinstance(op, PutOp):
                puts[op.namespace, op.key] = position, op
            else:
                for operation in _read_operations(op):
                    self._add(position, operation)
        for position, op in puts.values():
            self._add(position, _write_operation(op, index))

    def requests(self) -> Iterable[list[dict[str, Any]]]:
        for start in range(0, len(self._operations), OPERATIONS_MAX):
            yield self._operations[start : start + OPERATIONS_MAX]

    def results(self, found: Sequence[ItemOperationResult]) -> list[Result]:
        """One result an operation of LangGraph. Raises ValueError for the first that failed."""
        results: list[Any] = [
            [] if isinstance(op, SearchOp | ListNamespacesOp) else None for op in self._ops
        ]
        for position, result in zip(self._owners, found, strict=True):
            if result.error is not None:
                field = f" ({result.error.field})" if result.error.field else ""
                raise ValueError(f"{result.error.detail}{field}")
            if result.page is not None:
                results[position] += map(_search_item, result.page.items)
            elif result.namespaces is not None:
                results[position] += map(tuple, result.namespaces.namespaces)
            elif result.item is not None:
                results[position] = _item(result.item)
        return results

    def _add(self, position: int, operation: dict[str, Any]) -> None:
        self._owners.append(position)
        self._operations.append(operation)


def _read_operations(op: Op) -> Iterable[dict[str, Any]]:
    """The operations whose results together are that of `op`; none where nothing can be found."""
    match op:
        case GetOp():
            yield {
                "op": "get",
                "namespace": list(op.namespace),
                "key": op.key,
                "refresh_ttl": op.refresh_ttl,
            }
        case SearchOp():
            search = {
                "op": "search",
                "prefix": list(op.namespace_prefix),
                "query": op.query or None,
                "filter": _filter(op.filter) if op.filter else None,
                "refresh_ttl": op.refresh_ttl,
                "order": "oldest",
            }
            yield from _pages(search, op.limit, op.offset)
        case ListNamespacesOp():
            ends = _ends(op)
            if ends is not None:
                listing = {"op": "namespaces", **ends, "max_depth": op.max_depth}
                yield from _pages(listing, op.limit, op.offset)
        case _:
            raise ValueError(f"Unknown operation type: {type(op)}")


def _write_operation(op: PutOp, index: Sequence[str] | None) -> dict[str, Any]:
    name = {"namespace": list(op.namespace), "key": op.key}
    if op.value is None:
        return {"op": "delete", **name}
    paths = index if op.index is None else op.index
    return {
        "op": "put",
        **name,
        "value": dict(op.value),
        "index": True if paths is None else paths,
        "ttl_seconds": None if op.ttl is None else op.ttl * 60,
    }


def _pages(operation: dict[str, Any], limit: int, offset: int) -> Iterable[dict[str, Any]]:
    for start in range(offset, offset + limit, PAGE_MAX):
        yield {
            **operation,
            "offset": start,
            "limit": min(PAGE_MAX, offset + limit - start),
        }


def _ends(op: ListNamespacesOp) -> dict[str, list[str]] | None:
    """The conditions as one prefix and one suffix; None where they contradict each other."""
    ends: dict[str, list[str]] = {"prefix": [], "suffix": []}
    for condition in op.match_conditions or ():
        labels = list(condition.path)
        is_suffix = condition.match_type == "suffix"
        earlier = ends[condition.match_type]
        # From the end that both have in common.
        ours, theirs = (labels[::-1], earlier[::-1]) if is_suffix else (labels, earlier)
        merged = []
        for position in range(max(len(ours), len(theirs))):
            pair = {*ours[position : position + 1], *theirs[position : position + 1]} - {"*"}
            if len(pair) > 1:
                return None
            merged.append(pair.pop() if pair else "*")
        ends[condition.match_type] = merged[::-1] if is_suffix else merged
    return ends


def _filter(given: Mapping[str, Any]) -> dict[str, Any]:
    """The filter without numbers and texts that no stored value can have."""
    found: dict[str, Any] = {}
    for name, expected in given.items():
        if isinstance(expected, Mapping) and any(str(key).startswith("$") for key in expected):
            compared: dict[str, Any] = {}
            for operator, operand in expected.items():
                compared |= _comparison(operator, operand)
            found[name] = compared or {"$ne": [name, _INFINITE]}
        elif isinstance(expected, Mapping):
            found[name] = _filter(expected)
        else:
            found[name] = _NEVER if _is_unstorable(expected) else expected
    return found


def _comparison(operator: str, operand: Any) -> dict[str, Any]:
    if _is_unstorable(operand):
        return {} if operator == "$ne" else dict(_NEVER)
    if isinstance(operand, float) and math.isinf(operand):
        return {operator: int(math.copysign(1, operand)) * _INFINITE}
    return {operator: operand}


def _is_unstorable(value: Any) -> bool:
    return (isinstance(value, float) and math.isnan(value)) or (
        isinstance(value, str) and "\x00" in value
    )


def _item(body: ItemBody) -> Item:
    return Item(
        namespace=tuple(body.namespace),
        key=body.key,
        value=body.value,
        created_at=body.created_at,
        updated_at=body.updated_at,
    )


def _search_item(body: ItemBody) -> SearchItem:
    return SearchItem(
        namespace=tuple(body.namespace),
        key=body.key,
        value=body.value,
        created_at=body.created_at,
        updated_at=body.updated_at,
        score=body.score,
    )


class LumaRetriever(BaseRetriever):
    """The blocks of one user that matter for a question, as LangChain documents.

    Their metadata has `block_id`, `score`, `relevance`, `occurred_at`, and the speaker, session,
    source and title where the block has them, beside its own metadata.
    """

    url: str
    api_key: str | None = None
    user_id: str = "default"
    k: int = 5
    filters: dict[str, Any] | None = None
    relevant_only: bool = False

    _clients: Clients = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        self._clients = Clients(self.url, self.api_key)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return _documents(self._clients.blocking.search(query, **self._request(k)))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return _documents(await self._clients.asynchronous.search(query, **self._request(k)))

    def _request(self, k: int | None) -> dict[str, Any]:
        return {
            "user_id": self.user_id,
            "limit": self.k if k is None else k,
            "filters": self.filters,
            "relevant_only": self.relevant_only,
        }


def _documents(response: SearchResponse) -> list[Document]:
    documents = []
    for hit in response.results:
        block = hit.block
        facts = {
            "block_id": str(block.id),
            "score": hit.score,
            "relevance": hit.relevance,
            "occurred_at": block.occurred_at.isoformat(),
            "speaker": block.speaker,
            "session_id": block.session_id,
            "source": block.source,
            "title": block.title,
        }
        own = {name: value for name, value in facts.items() if value is not None}
        documents.append(
            Document(page_content=block.content, id=str(block.id), metadata=block.metadata | own)
        )
    return documents
