# Generated from keys.py in `asynchronous`; change it there, then `make format`.

"""API keys: list, create and revoke."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from luma_memory.client.calls import Call, encoded, read, segment, without_none, write
from luma_memory.client.responses import parsed
from luma_memory.client.synchronous.connection import Connection
from luma_memory.domain.access import Permission
from luma_memory.protocol.keys import CurrentKeyBody, KeyBody, KeyPageBody


class Keys(Connection):
    """Keys of the project of this client's key, or of its user. All need the permission `admin`."""

    def list_keys(
        self,
        *,
        user_id: str | None = None,
        include_revoked: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> KeyPageBody:
        """One page of keys, newest first."""
        call = read(
            "/keys",
            user_id=user_id,
            include_revoked=include_revoked or None,
            limit=limit,
            cursor=cursor,
        )
        return parsed(KeyPageBody, self._send(call))

    def iterate_keys(
        self,
        *,
        user_id: str | None = None,
        include_revoked: bool = False,
        page_size: int | None = None,
    ) -> Iterator[KeyBody]:
        """All keys that `list_keys` has, fetched page by page."""
        cursor: str | None = None
        while True:
            page = self.list_keys(
                user_id=user_id, include_revoked=include_revoked, limit=page_size, cursor=cursor
            )
            for key in page.keys:
                yield key
            if (cursor := page.next_cursor) is None:
                return

    def current_key(self) -> CurrentKeyBody:
        """What this client's credentials permit; needs no particular permission."""
        return parsed(CurrentKeyBody, self._send(read("/keys/current")))

    def create_key(
        self,
        permissions: Collection[Permission],
        *,
        user_id: str | None = None,
        name: str | None = None,
    ) -> KeyBody:
        """Create a key; its text, `key`, is in this response only.

        The call is not retried: repeated, it would create another key.
        """
        body = without_none(permissions=list(permissions), user_id=user_id, name=name)
        headers = {"Content-Type": "application/json"}
        call = Call("POST", "/keys", headers, encoded(body), is_repeatable=False)
        return parsed(KeyBody, self._send(call))

    def revoke_key(self, prefix: str, *, idempotency_key: str | None = None) -> KeyBody:
        """Revoke a key permanently, by its prefix."""
        call = write("DELETE", f"/keys/{segment(prefix)}", idempotency_key=idempotency_key)
        return parsed(KeyBody, self._send(call))
