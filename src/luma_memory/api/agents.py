"""The endpoint of agent hosts, and the metadata they need to sign in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import Scope

from luma_memory.bootstrap.parts import token_issuers
from luma_memory.bootstrap.service import Service
from luma_memory.domain.errors import Unauthenticated
from luma_memory.mcp import MCP_PATH, METADATA_PATHS, is_installed
from luma_memory.mcp.resource_metadata import ProtectedResource

_HTTP: Final = "luma_memory.mcp.http"
Challenges = Mapping[str, Callable[[Scope, Unauthenticated], str]]


def load_agents() -> None:
    """Import what `add_agents` needs; the protocol's SDK is an optional dependency."""
    if is_installed():
        import_module(_HTTP)


def add_agents(app: FastAPI, service: Service) -> Challenges:
    """Serve the Model Context Protocol, if it is enabled and installed.

    Returns the challenges of its responses 401, by path. Without a token issuer there are
    none, and no metadata either: hosts then ask their users for a key.
    """
    settings = service.settings
    if not (settings.mcp_enabled and is_installed()):
        return {}
    issuers = [issuer.issuer for issuer in token_issuers(settings)]
    resource = ProtectedResource(issuers, settings.public_url) if issuers else None
    endpoint = import_module(_HTTP).McpEndpoint(service, resource)
    app.router.routes.append(Route(MCP_PATH, endpoint))
    app.router.lifespan_context = lambda _app: endpoint.run()
    if resource is None:
        return {}
    for path in METADATA_PATHS:
        app.router.routes.append(Route(path, resource.metadata))
    return {MCP_PATH: resource.challenge}
