"""Protected routes: each has a permission, strict JSON, and stored responses for keyed requests.

A route declares its permission and cannot be declared without one:

    @router.get("", **permission("read"))
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from luma_memory.api.direct import shortcut_of
from luma_memory.api.idempotency import HEADER, check_keys, run_once
from luma_memory.api.query_names import check_query, query_names
from luma_memory.api.request_target import with_slashes
from luma_memory.api.strict_json import StrictRequest
from luma_memory.bootstrap.service import Service
from luma_memory.domain.access import Caller, Permission
from luma_memory.domain.errors import UnavailableError

PERMISSION: Final = "x-permission"
# Of a route for every caller with credentials, whatever they permit.
AnyPermission = Literal["any"]
NOT_REMEMBERED: Final = "x-not-remembered"
# On every response while MEMORY_SYSTEM_ENABLED=false; reads still work.
SYSTEM_HEADER: Final = "X-Memory-System"
SYSTEM_DISABLED: Final = "system_disabled"
SECURITY: Final[Sequence[dict[str, list[str]]]] = ({"bearer": []}, {"apiKey": []})


def permission(needed: Permission | AnyPermission, *, remembered: bool = True) -> dict[str, Any]:
    """Keyword arguments of a route for callers with this permission.

    remembered: whether the response to a write with an Idempotency-Key is stored here; False for
    a route that does so itself, or that is idempotent anyway.
    """
    extra = {PERMISSION: needed, "security": list(SECURITY)}
    return {"openapi_extra": extra if remembered else {**extra, NOT_REMEMBERED: True}}


class ProtectedRoute(APIRoute):
    """A route that checks the caller's permission before it reads the body."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        if "path_params" in found:
            found["path_params"] = with_slashes(found["path_params"])
        return match, found

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        needed = permission_of(self.openapi_extra)
        methods = self.methods or set()
        writes = is_write(methods, self.openapi_extra)
        remembers = is_remembered(methods, self.openapi_extra)
        operation = f"{' '.join(methods)} {self.path}"
        names = query_names(self.dependant)
        take = shortcut_of(self.endpoint)

        async def checked(request: Request) -> Response:
            caller = caller_of(request)
            if needed != "any":
                caller.check_may(needed)
            if query := request.scope["query_string"]:
                check_query(query, names)
            service: Service = request.app.state.service
            if writes:
                _check_enabled(service)
                check_keys(request.headers.getlist(HEADER))
            strict = StrictRequest(request.scope, request.receive)
            if remembers and HEADER in request.headers:
                return await run_once(
                    strict, caller, service.responses, operation=operation, handle=handle
                )
            response = await take(strict, caller, service) if take is not None else None
            if response is None:
                response = await handle(strict)
            if not service.settings.system_enabled:
                response.headers[SYSTEM_HEADER] = SYSTEM_DISABLED
            return response

        return checked


def is_write(methods: Collection[str], extra: Mapping[str, Any] | None) -> bool:
    """Whether a route changes data; a query with a body does not."""
    return "GET" not in methods and permission_of(extra) != "read"


def is_remembered(methods: Collection[str], extra: Mapping[str, Any] | None) -> bool:
    """Whether responses to keyed requests of a route are stored: those of writes."""
    return is_write(methods, extra) and not (extra or {}).get(NOT_REMEMBERED)


def _check_enabled(service: Service) -> None:
    if not service.settings.system_enabled:
        raise UnavailableError("The memory system is switched off", code=SYSTEM_DISABLED)


def permission_of(openapi_extra: Mapping[str, Any] | None) -> Permission | AnyPermission:
    """The permission a route was declared with. Raises TypeError if there is none."""
    needed: Permission | AnyPermission | None = (openapi_extra or {}).get(PERMISSION)
    if needed is None:
        raise TypeError("a protected route needs **permission(...)")
    return needed


def caller_of(request: Request) -> Caller:
    """The caller that `Authentication` identified."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


async def _caller(request: Request) -> Caller:
    return caller_of(request)


CallerDep = Annotated[Caller, Depends(_caller)]
