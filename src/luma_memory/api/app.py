"""The application: routes, error handlers and middleware.

A request passes, from the outside in: RequestContext (request id, one event), RequestTarget (checks
path and query), CORS (only where origins are allowed), Admission (limits concurrent work),
Authentication (identifies the caller), ProtectedRoute (the route's permission), the route.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRouter
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Scope

from luma_memory import __version__
from luma_memory.api.admission import Admission
from luma_memory.api.agents import Challenges, add_agents
from luma_memory.api.authentication import Authentication
from luma_memory.api.console import CONSOLE_FOLDER, CONSOLE_PATH, add_console, packaged_files
from luma_memory.api.head import HeadAsGet
from luma_memory.api.mem0.routes import ADD_PATHS, DOCUMENT_PATH, SEARCH_PATHS, add_mem0
from luma_memory.api.mem0.routes import ROUTERS as MEM0_ROUTERS
from luma_memory.api.openapi import add_openapi
from luma_memory.api.problems import add_problem_handlers
from luma_memory.api.reference import (
    ASSETS,
    CONTENT_SECURITY_POLICY,
    reference_assets,
    reference_page,
)
from luma_memory.api.rendered import RenderedContexts
from luma_memory.api.request_context import RequestContext
from luma_memory.api.request_target import RequestTarget
from luma_memory.api.routes import (
    blocks,
    cache,
    context,
    events,
    health,
    items,
    jobs,
    keys,
    providers,
    relations,
    search,
    summaries,
    usage,
    users,
    webhooks,
)
from luma_memory.api.routes import metrics as metrics_routes
from luma_memory.api.routes import settings as settings_routes
from luma_memory.api.routing import ProtectedRoute
from luma_memory.bootstrap.service import Service
from luma_memory.concurrency.token_buckets import TokenBuckets
from luma_memory.mcp import MCP_PATH, METADATA_PATHS
from luma_memory.protocol.base_path import BASE_PATH

# Served without credentials and regardless of load.
HEALTH_PATHS = tuple(f"{BASE_PATH}/health{part}" for part in ("", "/live", "/ready"))
OPENAPI_PATH = f"{BASE_PATH}/openapi.json"
REFERENCE_PATH = f"{BASE_PATH}/docs"
_ASSET_PATHS = tuple(f"{REFERENCE_PATH}/{name}" for name in ASSETS)
OPEN_PATHS = (
    *HEALTH_PATHS,
    *(OPENAPI_PATH, DOCUMENT_PATH, REFERENCE_PATH, CONSOLE_PATH),
    *_ASSET_PATHS,
)
# What calls a provider while its client waits.
_ASKING_PATHS = SEARCH_PATHS.union(
    f"{BASE_PATH}/{name}"
    for name in ("search", "context", "summaries", "items/search", "items/batch")
)
_BLOCK_PATHS = ADD_PATHS.union(f"{BASE_PATH}/{name}" for name in ("blocks", "blocks/batch"))
_ROUTERS: Sequence[APIRouter] = (
    blocks.router,
    search.router,
    items.router,
    context.router,
    relations.router,
    summaries.router,
    jobs.router,
    cache.router,
    usage.router,
    metrics_routes.router,
    users.router,
    keys.router,
    settings_routes.router,
    providers.router,
    webhooks.router,
    events.router,
    health.router,
)
_REQUEST_HEADERS = (
    *("Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "If-Match"),
    *("Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mem0-User-ID"),
)
_RESPONSE_HEADERS = ("ETag", "Location", "Retry-After", "X-Memory-System", "X-Request-ID")


def create_app(service: Service) -> FastAPI:
    """The app over an open service; the caller closes the service."""
    app = _routed_app()
    app.state.service = service
    app.state.rendered = RenderedContexts()
    app.state.stopping = asyncio.Event()
    app.state.console = packaged_files
    _add_reference(app)
    add_console(app)
    _add_middleware(app, service, add_agents(app, service))
    return app


def openapi_document() -> dict[str, Any]:
    """The content of /openapi.json, without a service."""
    return _routed_app().openapi()


def _routed_app() -> FastAPI:
    app = FastAPI(
        title="Luma Memory",
        version=__version__,
        summary="A memory service for AI applications.",
        openapi_url=OPENAPI_PATH,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    add_problem_handlers(app)
    # Added directly, not through a router for the base path: nested routers slow every request.
    for router in (*_ROUTERS, *MEM0_ROUTERS):
        _check_routes(router)
    for router in _ROUTERS:
        app.include_router(router, prefix=BASE_PATH)
    add_mem0(app)
    add_openapi(app, _ROUTERS, prefix=BASE_PATH)
    return app


def _waits_for_provider(scope: Scope, *, is_inline: bool) -> bool:
    """Whether a request may wait for a model. is_inline: accepting a block enriches it."""
    if scope["method"] != "POST":
        return False
    if scope["path"] in _ASKING_PATHS or scope["path"] == MCP_PATH:
        return True
    return scope["path"] in _BLOCK_PATHS and (is_inline or b"wait=" in scope["query_string"])


def _add_reference(app: FastAPI) -> None:
    title = f"{app.title} {app.version}"

    async def reference() -> HTMLResponse:
        policy = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
        return HTMLResponse(reference_page(title), headers=policy)

    async def asset(request: Request) -> Response:
        found = reference_assets()[request.url.path.rpartition("/")[2]]
        # The names carry no version: a browser revalidates after an upgrade.
        headers = {"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"}
        return Response(found.content, media_type=found.media_type, headers=headers)

    app.add_api_route(REFERENCE_PATH, reference, include_in_schema=False)
    for path in _ASSET_PATHS:
        app.add_api_route(path, asset, include_in_schema=False)


def _add_middleware(app: FastAPI, service: Service, challenges: Challenges) -> None:
    """The innermost first."""
    settings = service.settings
    per_minute = settings.requests_per_minute
    app.add_middleware(
        Authentication,
        keys=service.keys,
        open_paths=(*OPEN_PATHS, *METADATA_PATHS),
        open_folder=CONSOLE_FOLDER,
        limit=TokenBuckets(per_minute, monotonic=service.clock.monotonic) if per_minute else None,
        allowed_origins=settings.allowed_origins,
        challenges=challenges,
    )
    app.add_middleware(
        Admission,
        requests_max=settings.concurrent_requests_max,
        body_seconds_max=settings.request_timeout_ms / 1000,
        # A stream waits most of the time, and has a limit of its own.
        always=(*HEALTH_PATHS, BASE_PATH + events.EVENTS_PATH_END),
        streamed=users.IMPORT_PATH_END,
        waits=partial(_waits_for_provider, is_inline=not settings.worker_enabled),
    )
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_RESPONSE_HEADERS,
        )
    app.add_middleware(HeadAsGet)
    app.add_middleware(RequestTarget)
    app.add_middleware(
        RequestContext,
        emit=service.emit,
        routes=app.routes,
        untraced=(*HEALTH_PATHS, f"{BASE_PATH}/metrics"),
    )


def _check_routes(router: APIRouter) -> None:
    """Raises TypeError for a route without a permission: it must not be served."""
    for route in router.routes:
        path = BASE_PATH + getattr(route, "path", "")
        if path not in OPEN_PATHS and not isinstance(route, ProtectedRoute):
            raise TypeError(
                f"{path} is neither open nor protected: declare it with route_class=ProtectedRoute"
            )
