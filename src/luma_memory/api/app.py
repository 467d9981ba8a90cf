"""The application: routes, errors and the context of requests put together."""

from __future__ import annotations

from fastapi import FastAPI

from luma_memory import __version__
from luma_memory.api.problems import add_problem_handlers
from luma_memory.api.request_context import RequestContext
from luma_memory.api.routes import blocks, health, jobs, search
from luma_memory.bootstrap import Service

BASE_PATH = "/api/v1/memory"


def create_app(service: Service) -> FastAPI:
    """The app over an opened service; whoever opened the service closes it."""
    app = FastAPI(
        title="Luma Memory",
        version=__version__,
        summary="A memory service for AI applications.",
        openapi_url=f"{BASE_PATH}/openapi.json",
        docs_url=f"{BASE_PATH}/docs",
        redoc_url=None,
    )
    app.state.service = service
    add_problem_handlers(app)
    # Side by side, not below a router of the base path: nested ones are walked at every request.
    for routes in (blocks, search, jobs, health):
        app.include_router(routes.router, prefix=BASE_PATH)
    app.add_middleware(RequestContext, emit=service.emit)
    return app
