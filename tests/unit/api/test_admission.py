"""The limits on concurrent body bytes and their time, in the middleware alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from luma_memory.api.admission import BODY_BYTES_MAX, Admission

MEGABYTE = b" " * 1_000_000


async def received(
    path: str, pieces: Iterable[bytes], *, headers: dict[bytes, bytes] | None = None
) -> tuple[int, list[int]]:
    """How many bytes the app got to read, and the statuses that were sent in its place."""
    got, statuses = 0, []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        nonlocal got
        more = True
        while more:
            message = await receive()
            got += len(message["body"])
            more = message["more_body"]

    rest = iter(pieces)

    async def receive() -> dict[str, Any]:
        if (piece := next(rest, None)) is None:
            return {"type": "http.request", "body": b"", "more_body": False}
        if not piece:
            await asyncio.sleep(60)  # a sender that went to sleep
        return {"type": "http.request", "body": piece, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        if "status" in message:
            statuses.append(message["status"])

    service = Admission(app, requests_max=8, body_seconds_max=0.2, always=(), streamed="/import")
    scope = {"type": "http", "path": path, "headers": list((headers or {}).items())}
    await service(scope, receive, send)  # type: ignore[arg-type]
    return got, statuses


async def test_a_streamed_body_may_have_any_length() -> None:
    count = BODY_BYTES_MAX // len(MEGABYTE) * 2
    length = b"%d" % (count * len(MEGABYTE))
    got, statuses = await received(
        "/users/ada/import", [MEGABYTE] * count, headers={b"content-length": length}
    )
    assert (got, statuses) == (count * len(MEGABYTE), [])


async def test_buffered_bodies_count_against_the_memory_limit() -> None:
    count = BODY_BYTES_MAX // len(MEGABYTE) + 1
    with pytest.raises(HTTPException) as caught:
        await received("/blocks/batch", [MEGABYTE] * count)
    assert caught.value.status_code == 503


async def test_each_piece_of_a_stream_has_its_own_time() -> None:
    with pytest.raises(HTTPException) as caught:
        await received("/users/ada/import", [MEGABYTE, b"", MEGABYTE])
    assert caught.value.status_code == 408
