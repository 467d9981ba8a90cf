"""Items: JSON values with a name, read by it and found by meaning."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from luma_memory.api.batches import VALIDATED_AT_ONCE
from luma_memory.api.direct import json_body, query_values, shortcut
from luma_memory.api.entity_tags import IfMatch, tag_in
from luma_memory.api.idempotency import HEADER
from luma_memory.api.problems import RESPONSES, field_problem, problem_document
from luma_memory.api.routes.blocks import IdempotencyKey
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.api.strict_json import StrictRequest, bounded
from luma_memory.bootstrap.service import Service
from luma_memory.domain.access import Caller
from luma_memory.domain.errors import Invalid, RequestError
from luma_memory.domain.item import (
    LABELS_MAX,
    DeleteItem,
    GetItem,
    ItemName,
    ItemOperation,
    ListNamespaces,
    PutItem,
)
from luma_memory.domain.scope import Scope
from luma_memory.protocol.item_mapping import (
    condition,
    delete_item,
    item_body,
    item_page_body,
    namespace_page_body,
    operation,
    operation_result,
    put_item,
    request_key,
    search_items,
    written_body,
)
from luma_memory.protocol.items import (
    LIMIT_MAX,
    OFFSET_MAX,
    ItemBatchBody,
    ItemBatchResponse,
    ItemBody,
    ItemOperationBody,
    ItemPageBody,
    Key,
    Label,
    NamespacePageBody,
    PutItemBody,
    SearchItemsBody,
    WrittenItemBody,
)
from luma_memory.protocol.validation import Name

# A value of 256 KB, escaped twice.
ITEM_BYTES_MAX = 2_000_000
BATCH_BYTES_MAX = 32_000_000
SEARCH_BYTES_MAX = 200_000

router = APIRouter(prefix="/items", tags=["items"], route_class=ProtectedRoute)
CONDITIONAL = {
    **RESPONSES,
    412: problem_document("The item has changed since If-Match, or is not there."),
}
NamespaceQuery = Annotated[
    list[Label],
    Query(min_length=1, max_length=LABELS_MAX, description="Its labels: repeat the parameter."),
]
LabelsQuery = Annotated[
    list[Label],
    Query(max_length=LABELS_MAX, description="Labels, `*` for any one: repeat the parameter."),
]
_OPERATION: TypeAdapter[ItemOperationBody] = TypeAdapter(ItemOperationBody)


_JSON = "application/json"


class _NameQuery(BaseModel):
    """What `get_item` reads of the query in its usual form."""

    model_config = ConfigDict(extra="forbid")

    user_id: Name
    namespace: Annotated[list[Label], Field(min_length=1, max_length=LABELS_MAX)]
    key: Key


async def _put(request: StrictRequest, caller: Caller, service: Service) -> Response | None:
    if "if-match" in request.headers:
        return None
    body = await json_body(request, PutItemBody)
    if body is None:
        return None
    return await put_one_item(body, service, caller, None, request.headers.get(HEADER))


async def _get(request: StrictRequest, caller: Caller, service: Service) -> Response | None:
    query = query_values(request, _NameQuery, "namespace")
    if query is None:
        return None
    read = GetItem(name=ItemName(tuple(query.namespace), query.key))
    item = item_body(await service.items.get(caller.scope(query.user_id), read))
    headers = {"ETag": f'"{item.etag}"'}
    return Response(item.model_dump_json(), media_type=_JSON, headers=headers)


async def _batch(request: StrictRequest, caller: Caller, service: Service) -> Response | None:
    body = await json_body(request, ItemBatchBody)
    if body is None:
        return None
    return await batch_items(body, service, caller, request.headers.get(HEADER))


@router.put(
    "",
    response_model=WrittenItemBody,
    responses={
        **CONDITIONAL,
        201: {"model": WrittenItemBody, "description": "Created."},
        409: problem_document("There is such an item, and `if_absent` is true."),
    },
    max_body_size=ITEM_BYTES_MAX,
    **permission("ingest", remembered=False),
)
@shortcut(_put)
async def put_one_item(
    body: PutItemBody,
    service: ServiceDep,
    caller: CallerDep,
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Create or replace an item; committed before the response. What it was becomes a revision.

    Only changed text is embedded again. A repeated write without a condition has the same effect
    again; one with a condition gets its first response if it carries an Idempotency-Key.
    """
    when = condition(tag_in(if_match), if_absent=body.if_absent)
    request = request_key(idempotency_key, body, if_match)
    written = await service.items.put(
        caller.scope(body.user_id), put_item(body, when, request), changed_by=caller.name
    )
    content = written_body(written)
    return Response(
        content.model_dump_json(),
        201 if written.outcome == "created" else 200,
        media_type="application/json",
        headers={"ETag": f'"{content.etag}"'},
    )


@router.get(
    "",
    responses={**RESPONSES, 404: problem_document("There is no such item of this user.")},
    **permission("read"),
)
@shortcut(_get)
async def get_item(
    user_id: Name,
    namespace: NamespaceQuery,
    key: Key,
    service: ServiceDep,
    caller: CallerDep,
    response: Response,
    refresh_ttl: bool | None = None,
) -> ItemBody:
    """One item, as of the last committed write."""
    name = ItemName(tuple(namespace), key)
    read = GetItem(name=name, refresh_ttl=refresh_ttl)
    item = item_body(await service.items.get(caller.scope(user_id), read))
    response.headers["ETag"] = f'"{item.etag}"'
    return item


@router.delete(
    "",
    status_code=204,
    responses=CONDITIONAL,
    **permission("ingest", remembered=False),
)
async def delete_one_item(
    user_id: Name,
    namespace: NamespaceQuery,
    key: Key,
    service: ServiceDep,
    caller: CallerDep,
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Delete an item with its revisions; one that is not there is no error without If-Match."""
    request = request_key(idempotency_key, user_id, repr(namespace), key, if_match)
    await service.items.delete(
        caller.scope(user_id),
        delete_item(namespace, key, condition(tag_in(if_match)), request),
        changed_by=caller.name,
    )
    return Response(status_code=204)


@router.post(
    "/search",
    response_model=ItemPageBody,
    responses=RESPONSES,
    max_body_size=SEARCH_BYTES_MAX,
    **permission("read"),
)
async def search_user_items(
    body: SearchItemsBody, service: ServiceDep, caller: CallerDep
) -> Response:
    """Items of a namespace prefix, newest first, or ranked as blocks are with a query."""
    scope = caller.scope(body.user_id)
    search = search_items(body, service.cursors, scope)
    page = item_page_body(await service.items.search(scope, search), search, service.cursors, scope)
    return Response(page.model_dump_json(), media_type="application/json")


@router.get("/namespaces", responses=RESPONSES, **permission("read"))
async def list_item_namespaces(
    user_id: Name,
    service: ServiceDep,
    caller: CallerDep,
    prefix: LabelsQuery = [],  # noqa: B006 - FastAPI copies defaults
    suffix: LabelsQuery = [],  # noqa: B006
    max_depth: Annotated[int | None, Query(ge=1, le=LABELS_MAX)] = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = 100,
    offset: Annotated[int, Query(ge=0, le=OFFSET_MAX)] = 0,
) -> NamespacePageBody:
    """Namespaces in use, each once, in alphabetical order."""
    request = ListNamespaces(
        prefix=tuple(prefix),
        suffix=tuple(suffix),
        max_depth=max_depth,
        limit=limit,
        offset=offset,
    )
    page = await service.items.namespaces(caller.scope(user_id), request)
    return namespace_page_body(page, request)


@router.post(
    "/batch",
    response_model=ItemBatchResponse,
    responses=RESPONSES,
    max_body_size=BATCH_BYTES_MAX,
    **permission("ingest", remembered=False),
)
@shortcut(_batch)
async def batch_items(
    body: ItemBatchBody,
    service: ServiceDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Carry out up to 1,000 operations in order; each gets its own outcome.

    An operation that reads also requires the permission `read`.
    """
    scope = caller.scope(body.user_id)
    operations: list[ItemOperation | RequestError] = []
    for index, one in enumerate(body.operations):
        if index % VALIDATED_AT_ONCE == 0:
            await asyncio.sleep(0)  # other requests continue
        key = None if idempotency_key is None else f"{idempotency_key}:{index}"
        operations.append(_parsed(one, key, scope, service))
    if not all(isinstance(one, PutItem | DeleteItem | RequestError) for one in operations):
        caller.check_may("read")
    results = await service.items.batch(scope, operations, changed_by=caller.name)
    pairs = zip(operations, results, strict=True)
    response = ItemBatchResponse(
        results=[
            operation_result(index, one, result, service.cursors, scope)
            for index, (one, result) in enumerate(pairs)
        ]
    )
    return Response(response.model_dump_json(), media_type="application/json")


def _parsed(
    item: object, key: str | None, scope: Scope, service: Service
) -> ItemOperation | RequestError:
    try:
        body = _OPERATION.validate_python(bounded(item))
        return operation(body, service.cursors, scope, request_key(key, body))
    except ValidationError as error:
        first = field_problem(error.errors(include_url=False, include_input=False)[0])
        return Invalid(first.detail, code=first.code, field=first.field)
    except RequestError as error:
        return error
