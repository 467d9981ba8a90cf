"""Authentication: identifies the caller before the body is read, except on a few open paths."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Mapping
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from luma_memory.api.mem0 import is_mem0
from luma_memory.api.problems import error_response
from luma_memory.concurrency.token_buckets import TokenBuckets
from luma_memory.domain.access import ANONYMOUS, Caller
from luma_memory.domain.errors import Forbidden, LumaMemoryError, Unauthenticated
from luma_memory.domain.loopback import is_loopback
from luma_memory.pipeline.accounts.key_ring import KeyRing
from luma_memory.pipeline.accounts.rate_limits import check_rate


class Authentication:
    """ASGI middleware: stores the Caller in the request's state, or responds with an error.

    open_paths and everything below open_folder: need no credentials. limit: requests per minute
    and caller, None for no limit. allowed_origins: origins whose pages may call a service without
    keys. challenges: by path, the header WWW-Authenticate of a response 401.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing,
        open_paths: Collection[str],
        open_folder: str,
        limit: TokenBuckets | None,
        allowed_origins: Collection[str],
        challenges: Mapping[str, Callable[[Scope, Unauthenticated], str]],
    ) -> None:
        self._app = app
        self._keys = keys
        self._open_paths = frozenset(open_paths)
        self._open_folder = open_folder
        self._limit = limit
        self._allowed_origins = frozenset(allowed_origins)
        self._challenges = challenges

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_open(scope["path"]):
            try:
                scope["state"]["caller"] = await self._caller(scope)
            except LumaMemoryError as error:
                response = error_response(scope, error)
                challenge = self._challenges.get(scope["path"])
                if challenge is not None and isinstance(error, Unauthenticated):
                    response.headers["WWW-Authenticate"] = challenge(scope, error)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self._open_paths or path.startswith(self._open_folder)

    async def _caller(self, scope: Scope) -> Caller:
        address = _address(scope)
        caller = await self._keys.caller(_credentials(scope), address=address)
        if caller is ANONYMOUS and self._keys.required:
            _check_local(scope, self._allowed_origins)
        if self._limit is not None:
            name = address if caller is ANONYMOUS else f"{caller.name} {caller.user_id or ''}"
            check_rate(self._limit, name, "Too many requests", code="too_many_requests")
        return caller


def _credentials(scope: Scope) -> str | None:
    """The request's credentials. Raises Unauthenticated for several different ones."""
    headers = [
        (name, value.decode("latin-1").strip())
        for name, value in scope["headers"]
        if name in (b"authorization", b"x-api-key")
    ]
    if not headers:
        return None
    schemes = ("bearer", "token") if is_mem0(scope["path"]) else ("bearer",)
    found = {
        value if name == b"x-api-key" else _credential(value, schemes) for name, value in headers
    }
    if len(found) > 1:
        raise Unauthenticated(
            "The request carries different credentials; send one", code="credentials_ambiguous"
        )
    return found.pop()


def _credential(value: str, schemes: Collection[str]) -> str:
    scheme, _, credentials = value.partition(" ")
    if scheme.lower() not in schemes or not credentials.strip():
        raise Unauthenticated("Send the header as Authorization: Bearer <key>")
    return credentials.strip()


def _address(scope: Scope) -> str:
    """The client for rate limits: an IPv4 address, or the /64 network of an IPv6 address."""
    host = (scope.get("client") or ("unknown",))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return str(host)
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _check_local(scope: Scope, allowed_origins: Collection[str]) -> None:
    """Reject web pages in a local browser: under a rebound DNS name, or of another server."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    host, origin = headers.get(b"host"), headers.get(b"origin")
    if host is not None and not is_loopback(urlsplit(f"//{host}").hostname):
        raise Forbidden(
            "Without keys, this service accepts requests to localhost only", code="host_not_allowed"
        )
    # A page of this service has the address it calls as its origin; another local server's has not.
    is_own = host is not None and origin in (f"http://{host}", f"https://{host}")
    if origin is not None and not is_own and origin not in allowed_origins:
        raise Forbidden("Pages of this origin may not call the service", code="origin_not_allowed")
