"""Strict parsing of bodies: UTF-8, no NaN, no lone surrogate, limited depth, no duplicate key."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from jiter import from_json

# Some milliseconds of parsing; longer bodies are parsed in a thread, so other requests continue.
INLINE_BYTES_MAX = 262_144
KEYS_MAX = 100


class StrictRequest(Request):
    """A request whose body is parsed strictly instead of by the standard library."""

    async def json(self) -> Any:
        if not hasattr(self, "_parsed"):
            self._parsed = await self._parse()
        return self._parsed

    async def _parse(self) -> Any:
        body = await self.body()
        try:
            if len(body) <= INLINE_BYTES_MAX:
                return bounded(parse_strictly(body))
            return bounded(await asyncio.to_thread(parse_strictly, body))
        except ValueError as error:
            # The exception that FastAPI handles; without the document, which may contain anything.
            raise json.JSONDecodeError(str(error), "", 0) from None


def parse_strictly(body: bytes) -> Any:
    """What the JSON says. Raises ValueError.

    An object with a duplicate key is rejected: parsers differ in which value they use, so a proxy
    may have validated the other one.
    """
    try:
        return from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        if str(error).startswith("Detected duplicate key"):
            # The parser's message quotes the key, which may be as long as the body.
            raise ValueError("an object names a key twice") from None
        if _ESCAPED_SURROGATE not in body.lower():
            raise
    return _with_broken_items(body)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a key twice")
    return found


def _with_broken_items(body: bytes) -> Any:
    """A batch with lone surrogates in some of its blocks: each block is judged by itself.

    Raises ValueError if a lone surrogate is anywhere else.
    """
    try:
        value = _TOLERANT.decode(body.decode())
        if isinstance(value, dict) and isinstance(value.get(_ITEMS), list):
            json.dumps({**value, _ITEMS: None}, ensure_ascii=False).encode()
            return value
    except RecursionError:
        raise ValueError("nested too deeply") from None
    raise ValueError("a lone surrogate")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_ESCAPED_SURROGATE = b"\\ud"
# The only list whose members are judged one by one; no other model has a field of this name.
_ITEMS = "blocks"
_TOLERANT = json.JSONDecoder(object_pairs_hook=_each_once, parse_constant=_no_constant)


def bounded(value: Any) -> Any:
    """The value, with an object of too many keys truncated.

    No model has that many fields and each rejects unknown ones, so the object is rejected anyway;
    but an error for each of a million keys would take seconds.
    """
    if isinstance(value, dict) and len(value) > KEYS_MAX:
        return dict(itertools.islice(value.items(), KEYS_MAX))
    return value


class StrictJsonRoute(APIRoute):
    """A route that parses its body as a StrictRequest."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly
