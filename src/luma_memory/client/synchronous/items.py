# Generated from items.py in `asynchronous`; change it there, then `make format`.

"""Items: JSON values with a name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from luma_memory.client.calls import ask, read, without_none, write
from luma_memory.client.responses import parsed
from luma_memory.client.synchronous.connection import Connection
from luma_memory.domain.errors import NotFound
from luma_memory.domain.item import ItemIndex, ItemOrder
from luma_memory.protocol.items import (
    ItemBatchResponse,
    ItemBody,
    ItemPageBody,
    NamespacePageBody,
    WrittenItemBody,
)


class Items(Connection):
    """Items of one user at a time, each named by a namespace (its labels) and a key."""

    def put_item(
        self,
        namespace: Sequence[str],
        key: str,
        value: Any,
        *,
        user_id: str,
        index: ItemIndex | None = None,
        ttl_seconds: float | None = None,
        refresh_on_read: bool | None = None,
        if_absent: bool = False,
        etag: str | None = None,
        idempotency_key: str | None = None,
    ) -> WrittenItemBody:
        """Create or replace an item; it can be read at once.

        value: any JSON. index: JSON paths of the text that is searched, False for none. if_absent:
        raises Conflict (code item_exists) if there is such an item. etag: the state the item must
        still have, `*` for any; otherwise raises PreconditionFailed (code item_changed).
        """
        body = without_none(
            user_id=user_id,
            namespace=list(namespace),
            key=key,
            index=index,
            ttl_seconds=ttl_seconds,
            refresh_on_read=refresh_on_read,
            if_absent=if_absent or None,
        )
        call = write(
            "PUT", "/items", {**body, "value": value}, idempotency_key=idempotency_key, etag=etag
        )
        return parsed(WrittenItemBody, self._send(call))

    def get_item(
        self,
        namespace: Sequence[str],
        key: str,
        *,
        user_id: str,
        refresh_ttl: bool | None = None,
    ) -> ItemBody | None:
        """The item, None if there is none. refresh_ttl: begin its time to live anew."""
        call = read(
            "/items", user_id=user_id, namespace=namespace, key=key, refresh_ttl=refresh_ttl
        )
        try:
            return parsed(ItemBody, self._send(call))
        except NotFound as error:
            if error.code != "item_not_found":
                raise
            return None

    def delete_item(
        self,
        namespace: Sequence[str],
        key: str,
        *,
        user_id: str,
        etag: str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Delete an item; none is no error. etag: as in `put_item`."""
        call = write(
            "DELETE",
            "/items",
            idempotency_key=idempotency_key,
            etag=etag,
            user_id=user_id,
            namespace=namespace,
            key=key,
        )
        self._send(call)

    def search_items(
        self,
        prefix: Sequence[str] = (),
        *,
        user_id: str,
        query: str | None = None,
        exact: bool | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the name on the wire
        limit: int | None = None,
        offset: int | None = None,
        order: ItemOrder | None = None,
        cursor: str | None = None,
        refresh_ttl: bool | None = None,
    ) -> ItemPageBody:
        """Items whose namespace begins with `prefix`: newest first, or the best for a query."""
        body = without_none(
            user_id=user_id,
            prefix=list(prefix),
            query=query,
            exact=exact,
            filter=filter,
            limit=limit,
            offset=offset,
            order=order,
            cursor=cursor,
            refresh_ttl=refresh_ttl,
        )
        return parsed(ItemPageBody, self._send(ask("/items/search", body)))

    def iterate_items(
        self,
        prefix: Sequence[str] = (),
        *,
        user_id: str,
        exact: bool | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the name on the wire
        order: ItemOrder | None = None,
        page_size: int | None = None,
    ) -> Iterator[ItemBody]:
        """All items whose namespace begins with `prefix`, in order, fetched page by page."""
        cursor: str | None = None
        while True:
            page = self.search_items(
                prefix,
                user_id=user_id,
                exact=exact,
                filter=filter,
                limit=page_size,
                order=order,
                cursor=cursor,
            )
            for item in page.items:
                yield item
            if (cursor := page.next_cursor) is None:
                return

    def list_namespaces(
        self,
        *,
        user_id: str,
        prefix: Sequence[str] = (),
        suffix: Sequence[str] = (),
        max_depth: int | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> NamespacePageBody:
        """Namespaces in use. `*` in prefix or suffix is any label; max_depth cuts them."""
        call = read(
            "/items/namespaces",
            user_id=user_id,
            prefix=prefix,
            suffix=suffix,
            max_depth=max_depth,
            limit=limit,
            offset=offset,
        )
        return parsed(NamespacePageBody, self._send(call))

    def batch_items(
        self,
        operations: Sequence[Mapping[str, Any]],
        *,
        user_id: str,
        idempotency_key: str | None = None,
    ) -> ItemBatchResponse:
        """Carry out up to 1,000 operations in order, in one request; one result each.

        An operation is a mapping with `op` (put, delete, get, search, namespaces) and the fields
        of its method here.
        """
        body = {"user_id": user_id, "operations": list(operations)}
        call = write("POST", "/items/batch", body, idempotency_key=idempotency_key)
        return parsed(ItemBatchResponse, self._send(call))
