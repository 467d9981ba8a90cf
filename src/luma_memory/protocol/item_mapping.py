"""Maps the wire models of items to domain records and back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from pydantic import BaseModel

from luma_memory.domain.errors import Invalid, RequestError
from luma_memory.domain.item import (
    Condition,
    DeleteItem,
    GetItem,
    Item,
    ItemName,
    ItemOperation,
    ItemPage,
    ItemTag,
    ListNamespaces,
    NamespacePage,
    OperationResult,
    PutItem,
    RequestKey,
    SearchItems,
    Written,
)
from luma_memory.domain.item_filters import parse_item_filter
from luma_memory.domain.scope import Scope
from luma_memory.protocol.blocks import BatchItemError
from luma_memory.protocol.cursors import Cursors
from luma_memory.protocol.items import (
    RANKED_MAX,
    DeleteOperation,
    GetOperation,
    ItemBody,
    ItemOperationBody,
    ItemOperationResult,
    ItemPageBody,
    NamespacePageBody,
    NamespacesOperation,
    PutItemBody,
    PutOperation,
    SearchItemsBody,
    SearchOperation,
    WrittenItemBody,
)

_ETAG: Final = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,8})")


def etag(tag: ItemTag) -> str:
    return f"{tag.id.hex}-{tag.revision}"


def condition(if_match: str | None, *, if_absent: bool = False) -> Condition:
    """if_match: an etag without its quotes, or `*`. Raises Invalid for two conditions."""
    if if_match is None:
        return Condition(is_absent=if_absent)
    if if_absent:
        raise Invalid(
            "if_absent and If-Match exclude each other",
            code="conditions_exclusive",
            field="if_absent",
        )
    if if_match == "*":
        return Condition(exists=True)
    match = _ETAG.fullmatch(if_match)
    if match is None:
        return Condition(never=True)
    return Condition(tag=ItemTag(UUID(match[1]), int(match[2])))


def put_item(
    body: PutItemBody | PutOperation, when: Condition, request: RequestKey | None
) -> PutItem:
    return PutItem(
        name=ItemName(tuple(body.namespace), body.key),
        value=body.value,
        index=body.index,
        ttl_seconds=body.ttl_seconds,
        refresh_on_read=body.refresh_on_read,
        condition=when,
        request=request if when != Condition() else None,
    )


def delete_item(
    namespace: Sequence[str], key: str, when: Condition, request: RequestKey | None
) -> DeleteItem:
    return DeleteItem(
        name=ItemName(tuple(namespace), key),
        condition=when,
        request=request if when != Condition() else None,
    )


def search_items(
    body: SearchItemsBody | SearchOperation, cursors: Cursors, scope: Scope
) -> SearchItems:
    """Raises Invalid for a filter, a cursor or a combination that is not valid."""
    if body.query is not None and body.cursor is not None:
        raise Invalid(
            "A search with a query has no cursor: use offset", code="bad_cursor", field="cursor"
        )
    if body.query is not None and body.offset + body.limit > RANKED_MAX:
        raise Invalid(
            f"With a query, offset and limit together must be at most {RANKED_MAX:,}",
            code="offset_too_large",
            field="offset",
        )
    owner = _owner(scope, body.order)
    return SearchItems(
        prefix=tuple(body.prefix),
        is_exact=body.exact,
        query=body.query,
        filter=parse_item_filter(body.filter or {}),
        limit=body.limit,
        offset=body.offset,
        order=body.order,
        after=cursors.number(body.cursor, owner=owner) if body.cursor else None,
        refresh_ttl=body.refresh_ttl,
    )


def operation(
    body: ItemOperationBody, cursors: Cursors, scope: Scope, request: RequestKey | None
) -> ItemOperation:
    """One operation of a batch. Raises Invalid."""
    match body:
        case PutOperation():
            return put_item(body, condition(body.if_match, if_absent=body.if_absent), request)
        case DeleteOperation():
            return delete_item(body.namespace, body.key, condition(body.if_match), request)
        case GetOperation():
            name = ItemName(tuple(body.namespace), body.key)
            return GetItem(name=name, refresh_ttl=body.refresh_ttl)
        case SearchOperation():
            return search_items(body, cursors, scope)
        case NamespacesOperation():
            return ListNamespaces(
                prefix=tuple(body.prefix),
                suffix=tuple(body.suffix),
                max_depth=body.max_depth,
                limit=body.limit,
                offset=body.offset,
            )


def request_key(key: str | None, *parts: BaseModel | str | None) -> RequestKey | None:
    """The idempotency key with the digest of the request's parts."""
    if key is None:
        return None
    digest = hashlib.sha256()
    for part in parts:
        text = part.model_dump_json() if isinstance(part, BaseModel) else repr(part)
        digest.update(text.encode() + b"\x00")
    return RequestKey(key=key, request_hash=digest.digest())


def item_body(item: Item) -> ItemBody:
    return ItemBody(
        id=item.id,
        namespace=list(item.name.namespace),
        key=item.name.key,
        value=item.value,
        etag=etag(item.tag),
        created_at=item.created_at,
        updated_at=item.updated_at,
        expires_at=item.expires_at,
        score=item.score,
    )


def written_body(written: Written) -> WrittenItemBody:
    tag = None
    if written.id is not None and written.revision is not None:
        tag = etag(ItemTag(written.id, written.revision))
    return WrittenItemBody.model_validate(
        {
            "outcome": written.outcome,
            "etag": tag,
            "created_at": written.created_at,
            "updated_at": written.updated_at,
            "expires_at": written.expires_at,
        }
    )


def item_page_body(
    page: ItemPage, search: SearchItems, cursors: Cursors, scope: Scope
) -> ItemPageBody:
    owner = _owner(scope, search.order)
    return ItemPageBody(
        items=[item_body(item) for item in page.items],
        next_cursor=(
            cursors.after_number(page.next_after, owner=owner) if page.next_after else None
        ),
        degraded=list(page.degraded),
    )


def namespace_page_body(page: NamespacePage, request: ListNamespaces) -> NamespacePageBody:
    return NamespacePageBody(
        namespaces=[list(namespace) for namespace in page.namespaces],
        next_offset=request.offset + request.limit if page.has_more else None,
    )


def operation_result(
    index: int,
    operation: ItemOperation | RequestError,
    result: OperationResult | RequestError,
    cursors: Cursors,
    scope: Scope,
) -> ItemOperationResult:
    match result:
        case RequestError():
            field = result.field if isinstance(result, Invalid) else None
            error = BatchItemError(code=result.code, detail=str(result), field=field)
            return ItemOperationResult(index=index, error=error)
        case Written():
            return ItemOperationResult(index=index, written=written_body(result))
        case Item():
            return ItemOperationResult(index=index, item=item_body(result))
        case ItemPage():
            assert isinstance(operation, SearchItems)
            page = item_page_body(result, operation, cursors, scope)
            return ItemOperationResult(index=index, page=page)
        case NamespacePage():
            assert isinstance(operation, ListNamespaces)
            found = namespace_page_body(result, operation)
            return ItemOperationResult(index=index, namespaces=found)
        case None:
            return ItemOperationResult(index=index)


def _owner(scope: Scope, order: str) -> Sequence[str]:
    return (scope.project_id, scope.user_id, "items", order)
