"""A store for the memory of the Pydantic AI harness, with its files kept as items."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Final

from luma_memory.client import Conflict, Invalid, PreconditionFailed
from luma_memory.integrations.clients import Clients
from luma_memory.integrations.files import (
    FILE_INDEX,
    FILES,
    file_text,
    file_value,
    folder_operations,
)
from luma_memory.integrations.missing import extra_missing
from luma_memory.protocol.items import ItemBody, WrittenItemBody

try:
    from pydantic_ai_harness.memory import (
        MemoryConflictError,
        MemoryFile,
        MemoryMutation,
        MemoryOperation,
        MemoryOperationConflictError,
        MemorySearchMatch,
        MemorySearchResult,
    )
except ModuleNotFoundError as error:
    raise extra_missing(error, "pydantic-ai-harness") from error

OPERATIONS: Final = ("files-operations",)
# A run that is resumed later repeats its writes.
OPERATION_SECONDS: Final = 30 * 24 * 3600.0
_ETAG: Final = re.compile(r"[\x21\x23-\x7e]+")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_PATH_CHARACTERS_MAX: Final = 256
_METADATA_CHARACTERS_MAX: Final = 4_096
_PAGE: Final = 500
_HITS: Final = 100


class LumaMemoryStore:
    """A `MetadataMemoryStore` and `SearchableMemoryStore`; see docs/integrations/pydantic-ai.md.

    url, api_key: of the service. user_id: whose files; they are those of `LumaMemoryTool`. A
    version is the item's ETag, so a write that others have overtaken raises MemoryConflictError.
    Search ranks by meaning and words, as the service does.
    """

    def __init__(self, url: str, api_key: str | None = None, *, user_id: str = "default") -> None:
        self._clients = Clients(url, api_key)
        self._user_id = user_id

    async def read(self, path: str, *, max_chars: int) -> MemoryFile | None:
        """The file, cut to `max_chars`; None if there is none."""
        _check_path(path)
        if max_chars <= 0:
            raise ValueError("max_chars must be positive")
        item = await self._clients.asynchronous.get_item(FILES, path, user_id=self._user_id)
        text = None if item is None else file_text(item.value)
        if item is None or text is None:
            return None
        return MemoryFile(
            content=text[:max_chars],
            version=item.etag,
            operation_id=item.value.get("operation"),
            truncated=len(text) > max_chars,
            metadata=item.value.get("metadata"),
        )

    async def get_operation(self, operation: MemoryOperation) -> MemoryMutation | None:
        """What an operation did before. Raises MemoryOperationConflictError for another one."""
        receipt = await self._clients.asynchronous.get_item(
            OPERATIONS, _digest(operation.id), user_id=self._user_id
        )
        if receipt is None:
            return None
        if receipt.value["fingerprint"] != operation.fingerprint:
            raise MemoryOperationConflictError(
                f"operation id {operation.id!r} was reused with different arguments"
            )
        return MemoryMutation(
            version=receipt.value["version"], replayed=True, existed=receipt.value["existed"]
        )

    async def write(
        self,
        path: str,
        content: str,
        *,
        expected_version: str | None,
        operation: MemoryOperation | None = None,
    ) -> MemoryMutation:
        """Create or replace a file that still has this version, None: that is not there."""
        return await self.write_with_metadata(
            path, content, expected_version=expected_version, metadata=None, operation=operation
        )

    async def write_with_metadata(
        self,
        path: str,
        content: str,
        *,
        expected_version: str | None,
        metadata: Mapping[str, str] | None,
        operation: MemoryOperation | None = None,
    ) -> MemoryMutation:
        """`write`, recording what the caller says about it. Raises ValueError if it is too long."""
        _check_path(path)
        value = file_value(content)
        if metadata:
            value["metadata"] = _checked_metadata(metadata)
        if operation is not None:
            if (done := await self.get_operation(operation)) is not None:
                return done
            value["operation"] = operation.id
        try:
            written = await self._put(path, value, expected_version, operation)
        except (Conflict, PreconditionFailed) as error:
            raise _changed(path, "written") from error
        except Invalid as error:
            if operation is None or error.code != "idempotency_key_reused":
                raise ValueError(f"memory path {path!r} cannot be stored: {error}") from error
            return await self._repeated(operation, path)
        if expected_version is None and (folders := folder_operations(path)):
            await self._clients.asynchronous.batch_items(folders, user_id=self._user_id)
        mutation = MemoryMutation(
            version=written.etag, replayed=False, existed=expected_version is not None
        )
        return await self._recorded(operation, mutation)

    async def delete(
        self,
        path: str,
        *,
        expected_version: str | None,
        operation: MemoryOperation | None = None,
    ) -> MemoryMutation:
        """Delete a file that still has this version, None: that is not there."""
        _check_path(path)
        if operation is not None and (done := await self.get_operation(operation)) is not None:
            return done
        if expected_version is None:
            if await self.read(path, max_chars=1) is not None:
                raise _changed(path, "deleted")
            return await self._recorded(
                operation, MemoryMutation(version=None, replayed=False, existed=False)
            )
        try:
            await self._clients.asynchronous.delete_item(
                FILES,
                path,
                user_id=self._user_id,
                etag=_tag(path, expected_version, "deleted"),
                idempotency_key=None if operation is None else _digest(operation.id),
            )
        except PreconditionFailed as error:
            raise _changed(path, "deleted") from error
        except Invalid as error:
            if operation is None or error.code != "idempotency_key_reused":
                raise
            return await self._repeated(operation, path)
        return await self._recorded(
            operation, MemoryMutation(version=None, replayed=False, existed=True)
        )

    async def list_paths(self, prefix: str = "", *, limit: int) -> list[str]:
        """The first paths that begin with `prefix`, sorted. Reads all files of the user."""
        _check_prefix(prefix)
        if limit <= 0:
            raise ValueError("limit must be positive")
        items = self._clients.asynchronous.iterate_items(
            FILES, user_id=self._user_id, exact=True, page_size=_PAGE
        )
        found = [
            item.key
            async for item in items
            if item.key.startswith(prefix) and file_text(item.value) is not None
        ]
        return sorted(found)[:limit]

    async def search(
        self,
        prefix: str,
        query: str,
        *,
        limit: int,
        max_files: int,
        max_chars: int,
        max_file_chars: int,
    ) -> MemorySearchResult:
        """The files directly below `prefix` that fit a query, best first.

        max_files: how many are looked at. max_chars: of all paths and snippets together.
        max_file_chars: snippets are taken from that much of a file.
        """
        _check_prefix(prefix)
        matches: list[MemorySearchMatch] = []
        scanned, remaining = 0, max_chars
        if not query.split() or min(limit, max_files, max_chars, max_file_chars) <= 0:
            return MemorySearchResult(matches=matches, scanned=0, truncated=False)
        async for item in self._hits(query):
            name, text = item.key.removeprefix(prefix), file_text(item.value)
            if not item.key.startswith(prefix) or "/" in name or text is None:
                continue
            remaining -= len(name)
            if scanned == max_files or len(matches) == limit or remaining <= 0:
                return MemorySearchResult(matches=matches, scanned=scanned, truncated=True)
            scanned += 1
            snippet = _snippet(text[:max_file_chars], query, remaining)
            remaining -= len(snippet)
            matches.append(MemorySearchMatch(item.key, snippet, item.score or 0.0))
        return MemorySearchResult(matches=matches, scanned=scanned, truncated=False)

    async def aclose(self) -> None:
        """Close the connections of this event loop. Idempotent."""
        await self._clients.aclose()

    async def _hits(self, query: str) -> AsyncIterator[ItemBody]:
        """The user's files, best first."""
        offset = 0
        while True:
            page = await self._clients.asynchronous.search_items(
                FILES,
                user_id=self._user_id,
                query=query,
                exact=True,
                limit=_HITS,
                offset=offset,
            )
            for item in page.items:
                yield item
            offset += len(page.items)
            if len(page.items) < _HITS:
                return

    async def _put(
        self,
        path: str,
        value: Mapping[str, object],
        expected_version: str | None,
        operation: MemoryOperation | None,
    ) -> WrittenItemBody:
        """Raises Conflict and PreconditionFailed if the file is not as expected."""
        etag = None if expected_version is None else _tag(path, expected_version, "written")
        try:
            return await self._put_item(path, value, etag, operation)
        except Conflict:
            item = await self._clients.asynchronous.get_item(FILES, path, user_id=self._user_id)
            if item is None or file_text(item.value) is not None:
                raise
            # A folder of this name is no file.
            return await self._put_item(path, value, item.etag, operation)

    async def _put_item(
        self,
        path: str,
        value: Mapping[str, object],
        etag: str | None,
        operation: MemoryOperation | None,
    ) -> WrittenItemBody:
        return await self._clients.asynchronous.put_item(
            FILES,
            path,
            value,
            user_id=self._user_id,
            index=list(FILE_INDEX),
            if_absent=etag is None,
            etag=etag,
            idempotency_key=None if operation is None else _digest(operation.id),
        )

    async def _repeated(self, operation: MemoryOperation, path: str) -> MemoryMutation:
        """What was carried out by a process that ended before it recorded that."""
        file = await self.read(path, max_chars=1)
        own = file is not None and file.operation_id == operation.id
        version = file.version if own and file is not None else None
        await self._recorded(operation, MemoryMutation(version, replayed=False, existed=True))
        return MemoryMutation(version, replayed=True, existed=True)

    async def _recorded(
        self, operation: MemoryOperation | None, mutation: MemoryMutation
    ) -> MemoryMutation:
        """The mutation, kept under its operation; the first one, if that was carried out twice."""
        if operation is None:
            return mutation
        try:
            await self._clients.asynchronous.put_item(
                OPERATIONS,
                _digest(operation.id),
                {
                    "fingerprint": operation.fingerprint,
                    "version": mutation.version,
                    "existed": mutation.existed,
                },
                user_id=self._user_id,
                index=False,
                ttl_seconds=OPERATION_SECONDS,
                if_absent=True,
            )
        except Conflict:
            return await self.get_operation(operation) or mutation
        return mutation


def _digest(operation_id: str) -> str:
    return hashlib.sha256(operation_id.encode("utf-8", "surrogatepass")).hexdigest()


def _changed(path: str, change: str) -> MemoryConflictError:
    return MemoryConflictError(f"memory path {path!r} changed before it could be {change}")


def _tag(path: str, version: str, change: str) -> str:
    """The version as an ETag. Raises MemoryConflictError for one that no file has."""
    if _ETAG.fullmatch(version) is None or version == "*":
        raise _changed(path, change)
    return version


def _check_path(path: str) -> None:
    """Raises ValueError for a path that the harness's own stores refuse, or that is too long."""
    if len(path) > _PATH_CHARACTERS_MAX or not all(
        _SEGMENT.fullmatch(segment) and ".." not in segment and segment != "."
        for segment in path.split("/")
    ):
        raise ValueError(f"invalid memory path: {path!r}")


def _check_prefix(prefix: str) -> None:
    if prefix:
        _check_path(prefix.removesuffix("/"))


def _checked_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Raises TypeError and ValueError as the harness's own stores do."""
    if not all(isinstance(part, str) for pair in metadata.items() for part in pair):
        raise TypeError("memory metadata keys and values must be strings")
    if any("\x00" in part for pair in metadata.items() for part in pair):
        raise ValueError("memory metadata keys and values must not contain NUL characters")
    size = len(json.dumps(dict(metadata), ensure_ascii=False, separators=(",", ":")))
    if size > _METADATA_CHARACTERS_MAX:
        raise ValueError(
            f"memory metadata is {size} characters as JSON; the limit is {_METADATA_CHARACTERS_MAX}"
        )
    return dict(metadata)


def _snippet(text: str, query: str, characters_max: int) -> str:
    """A part of the text around the first word of the query that it has."""
    lower = text.lower()
    places = [place for word in query.lower().split() if (place := lower.find(word)) >= 0]
    start = max(0, min(min(places, default=0) - characters_max // 3, len(text) - characters_max))
    return text[start : start + characters_max]
