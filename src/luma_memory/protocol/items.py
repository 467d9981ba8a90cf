"""Items on the wire: JSON values with a name."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

from luma_memory.domain.item import (
    KEY_CHARACTERS_MAX,
    LABEL_CHARACTERS_MAX,
    LABELS_MAX,
    OPERATIONS_MAX,
    VALUE_BYTES_MAX,
    ItemOrder,
)
from luma_memory.protocol.blocks import BatchItemError
from luma_memory.protocol.validation import (
    FLOAT_MAX,
    INTEGER_MAX,
    JSON_VALUE_SCHEMA,
    NO_NUL_PATTERN,
    Name,
    Query,
    check_storable,
)

LIMIT_MAX = 1_000
OFFSET_MAX = 100_000
# Of a search with a query, with its limit: so many are ranked.
RANKED_MAX = 10_000
DEPTH_MAX = 64
TTL_SECONDS_MAX = 10 * 366 * 86_400.0


def check_value(value: Any) -> Any:
    """Require JSON that PostgreSQL can hold and return unchanged, of at most 256 KB."""
    _check_parts(value, depth=1)
    if len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) > VALUE_BYTES_MAX:
        raise PydanticCustomError("value_size", "must not be larger than 256 KB")
    return value


def _check_parts(value: Any, *, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise PydanticCustomError(
            "value_depth", f"must not be nested deeper than {DEPTH_MAX} levels"
        )
    match value:
        case str():
            check_storable(value)
        case bool() | None:
            pass
        case int() | float():
            limit = INTEGER_MAX if isinstance(value, int) else FLOAT_MAX
            if not math.isfinite(value) or abs(value) >= limit:
                raise PydanticCustomError(
                    "number_too_large",
                    "must hold integers within 64 bits and decimals below 2**53 only",
                )
        case dict():
            for name, member in value.items():
                check_storable(name)
                _check_parts(member, depth=depth + 1)
        case list():
            for element in value:
                _check_parts(element, depth=depth + 1)
        case _:
            raise PydanticCustomError("value_type", "must be JSON")


Label = Annotated[
    str,
    Field(
        min_length=1, max_length=LABEL_CHARACTERS_MAX, json_schema_extra={"pattern": NO_NUL_PATTERN}
    ),
    AfterValidator(check_storable),
]
Namespace = Annotated[
    list[Label],
    Field(min_length=1, max_length=LABELS_MAX, examples=[["users", "preferences"]]),
]
Labels = Annotated[list[Label], Field(max_length=LABELS_MAX)]
Key = Annotated[
    str,
    Field(
        min_length=1, max_length=KEY_CHARACTERS_MAX, json_schema_extra={"pattern": NO_NUL_PATTERN}
    ),
    AfterValidator(check_storable),
]
Path = Annotated[
    str,
    Field(min_length=1, max_length=256, json_schema_extra={"pattern": NO_NUL_PATTERN}),
    AfterValidator(check_storable),
]
Index = Annotated[
    Annotated[list[Path], Field(max_length=32)] | bool,
    Field(
        description="Which text of the value is searched: JSON paths such as `text` or `a.b[*].c`,"
        " true for all of it, false for none."
    ),
]
_VALUE_SCHEMA = {**JSON_VALUE_SCHEMA, "description": "Any JSON of at most 256 KB."}
Value = Annotated[
    Any,
    Field(json_schema_extra=_VALUE_SCHEMA),
    AfterValidator(check_value),
]
Limit = Annotated[int, Field(ge=1, le=LIMIT_MAX)]
Offset = Annotated[int, Field(ge=0, le=OFFSET_MAX)]
Etag = Annotated[
    str, Field(max_length=64, description="The `etag` the item must still have, or `*` for any.")
]
RefreshTtl = Annotated[
    bool | None,
    Field(description="Begin the time to live anew; if omitted, as `refresh_on_read` says."),
]


class _Put(BaseModel):
    """What is stored of an item."""

    namespace: Namespace
    key: Key
    value: Value
    index: Index = True
    ttl_seconds: float | None = Field(
        None,
        gt=0,
        le=TTL_SECONDS_MAX,
        allow_inf_nan=False,
        description="After so long the item is gone.",
    )
    refresh_on_read: bool = Field(False, description="Reads begin the time to live anew.")
    if_absent: bool = Field(False, description="Fail with 409 if there is such an item already.")


class PutItemBody(_Put):
    """An item to create or replace."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "user_id": "user-42",
                    "namespace": ["preferences"],
                    "key": "coffee",
                    "value": {"text": "Prefers tea in the afternoon."},
                }
            ]
        },
    )

    user_id: Name


class _Search(BaseModel):
    """Which items."""

    prefix: Labels = Field([], description="The first labels of the items' namespaces.")
    exact: bool = Field(False, description="The prefix is the whole namespace.")
    query: Query | None = Field(
        None, description="Rank the items by meaning and terms; without it they come in order."
    )
    filter: dict[str, Any] | None = Field(
        None,
        description="Compares members of the value: a value (equal), an object of $eq, $ne, $gt,"
        " $gte, $lt, $lte, or an object of members.",
        examples=[{"status": "open", "priority": {"$gte": 2}}],
    )
    limit: Limit = 10
    offset: Offset = 0
    order: ItemOrder = Field("newest", description="Of creation; ignored with a query.")
    cursor: Name | None = Field(None, description="`next_cursor` of the page before; no query.")
    refresh_ttl: RefreshTtl = None


class SearchItemsBody(_Search):
    """A search over one user's items."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"user_id": "user-42", "prefix": ["preferences"], "query": "What to drink?"}
            ]
        },
    )

    user_id: Name


class ItemBody(BaseModel):
    """A stored item."""

    id: UUID = Field(description="Of its block.")
    namespace: list[str]
    key: str
    value: Any
    etag: str = Field(description="Changes with every change; for If-Match, in quotes.")
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None
    score: float | None = Field(None, ge=0, le=1, description="Of a search with a query.")


class WrittenItemBody(BaseModel):
    """The state of an item after a write."""

    outcome: Literal["created", "replaced", "deleted", "missing"]
    etag: str | None = Field(None, description="Null after a deletion.")
    created_at: datetime | None = None
    updated_at: datetime | None = None
    expires_at: datetime | None = None


class ItemPageBody(BaseModel):
    """Items, in order or best first."""

    items: list[ItemBody]
    next_cursor: str | None = Field(
        None, description="Pass as `cursor` for the next page; always null with a query."
    )
    degraded: list[str] = Field(
        default_factory=list, description="What was skipped, so that results may be worse."
    )


class NamespacePageBody(BaseModel):
    """Namespaces in use, in alphabetical order."""

    namespaces: list[list[str]]
    next_offset: int | None = Field(description="Pass as `offset` for the next page.")


class PutOperation(_Put):
    """As PUT /items."""

    model_config = ConfigDict(extra="forbid")

    op: Literal["put"]
    if_match: Etag | None = None


class DeleteOperation(BaseModel):
    """As DELETE /items."""

    model_config = ConfigDict(extra="forbid")

    op: Literal["delete"]
    namespace: Namespace
    key: Key
    if_match: Etag | None = None


class GetOperation(BaseModel):
    """As GET /items; `item` is null for a missing one."""

    model_config = ConfigDict(extra="forbid")

    op: Literal["get"]
    namespace: Namespace
    key: Key
    refresh_ttl: RefreshTtl = None


class SearchOperation(_Search):
    """As POST /items/search."""

    model_config = ConfigDict(extra="forbid")

    op: Literal["search"]


class NamespacesOperation(BaseModel):
    """As GET /items/namespaces."""

    model_config = ConfigDict(extra="forbid")

    op: Literal["namespaces"]
    prefix: Labels = []
    suffix: Labels = []
    max_depth: Annotated[int, Field(ge=1, le=LABELS_MAX)] | None = None
    limit: Limit = 100
    offset: Offset = 0


ItemOperationBody = Annotated[
    PutOperation | DeleteOperation | GetOperation | SearchOperation | NamespacesOperation,
    Field(discriminator="op"),
]


_OPERATION_SCHEMAS: list[JsonValue] = [
    {"$ref": f"#/components/schemas/{model.__name__}"}
    for model in (
        PutOperation,
        DeleteOperation,
        GetOperation,
        SearchOperation,
        NamespacesOperation,
    )
]


class ItemBatchBody(BaseModel):
    """Operations on one user's items, carried out in order."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "user_id": "user-42",
                    "operations": [
                        {"op": "put", "namespace": ["notes"], "key": "1", "value": {"text": "Hi"}},
                        {"op": "get", "namespace": ["notes"], "key": "1"},
                    ],
                }
            ]
        },
    )

    user_id: Name
    # Validated one by one, so that an invalid operation does not fail the others.
    operations: list[Any] = Field(
        min_length=1,
        max_length=OPERATIONS_MAX,
        description="An operation that is not valid gets its own error.",
        json_schema_extra={"items": {"anyOf": [*_OPERATION_SCHEMAS, {}]}},
    )


class ItemOperationResult(BaseModel):
    """The outcome of one operation: what its own route returns, or an error."""

    index: int = Field(description="Position in the request, from 0.")
    item: ItemBody | None = Field(None, description="Of get; null for a missing item.")
    written: WrittenItemBody | None = Field(None, description="Of put and delete.")
    page: ItemPageBody | None = Field(None, description="Of search.")
    namespaces: NamespacePageBody | None = Field(None, description="Of namespaces.")
    error: BatchItemError | None = None


class ItemBatchResponse(BaseModel):
    """One result per operation, in request order."""

    results: list[ItemOperationResult]
