"""What every route behind the door has: a permission, strict JSON, and answers that can be had
again.

A route says its permission where it is declared, and cannot be declared without:

    @router.get("", **permission("read"))
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Response

from luma_memory.api.strict_json import StrictJsonRoute
from luma_memory.domain.access import Caller, Permission

PERMISSION: Final = "x-permission"
SECURITY: Final[Sequence[dict[str, list[str]]]] = ({"bearer": []}, {"apiKey": []})


def permission(needed: Permission) -> dict[str, Any]:
    """Keyword arguments of a route that only callers with this permission may use."""
    return {"openapi_extra": {PERMISSION: needed, "security": list(SECURITY)}}


class DoorRoute(StrictJsonRoute):
    """A route that looks at the caller's permission before it reads the body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        needed = permission_of(self.openapi_extra)

        async def admitted(request: Request) -> Response:
            caller_of(request).check_may(needed)
            return await handle(request)

        return admitted


def permission_of(openapi_extra: Mapping[str, Any] | None) -> Permission:
    """The permission a route was declared with. Raises TypeError when it was with none."""
    needed: Permission | None = (openapi_extra or {}).get(PERMISSION)
    if needed is None:
        raise TypeError("a route of the door needs **permission(...)")
    return needed


def caller_of(request: Request) -> Caller:
    """Who asks, as `Authentication` found out."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


async def _caller(request: Request) -> Caller:
    return caller_of(request)


CallerDep = Annotated[Caller, Depends(_caller)]
