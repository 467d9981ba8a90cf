"""What mem0's API has and this service does not: 501, naming the feature."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from luma_memory.api.mem0 import MEM0_PATH
from luma_memory.domain.errors import NotOffered

_EARLIER: Final = "the routes of earlier clients: use mem0ai 2 in Python, 3 in TypeScript"
# Paths that mem0's clients call, and the feature that each stands for.
PATHS: Final[Mapping[str, str]] = {
    "/v1/memories/": _EARLIER,
    "/v1/memories/search/": _EARLIER,
    "/v2/memories/": _EARLIER,
    "/v2/memories/search/": _EARLIER,
    "/v1/exports/": "exports by a schema (GET /users/{user_id}/export exports everything)",
    "/v1/exports/get/": "exports by a schema (GET /users/{user_id}/export exports everything)",
    "/v1/summary/": "summaries of exports",
    "/v1/feedback/": "feedback on memories",
    "/v1/events/": "a list of events",
    "/v2/entities/{entity_type}/{entity_id}/profile/": "profiles of users",
    "/v2/profiles/{path:path}": "profiles of users",
    "/api/v1/orgs/{path:path}": "organizations and projects, their members and instructions",
    "/api/v1/webhooks/{path:path}": "webhooks through this interface",
    "/configure": "configuration over HTTP",
    "/reset": "a reset of all memories in one request",
}
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


def not_offered(feature: str) -> NotOffered:
    return NotOffered(f"This service does not offer {feature}; see docs/from-mem0.md")


def not_offered_routes() -> Iterator[Route]:
    """Routes that respond 501. They need credentials, as all others, and read nothing."""
    for path, feature in PATHS.items():
        yield Route(MEM0_PATH + path, _refusal(feature), methods=_METHODS)


def _refusal(feature: str) -> Callable[[Request], Awaitable[Response]]:
    async def refuse(_request: Request) -> Response:
        raise not_offered(feature)

    return refuse
