"""This server as an OAuth 2.1 protected resource (RFC 9728): where hosts get their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from luma_memory.domain.access import OAUTH_SCOPES, Caller
from luma_memory.domain.errors import PermissionMissing, Unauthenticated
from luma_memory.mcp import MCP_PATH, METADATA_PATHS

_TTL_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class ProtectedResource:
    """The resource `/mcp`.

    issuers: the authorization servers whose tokens are accepted. public_url: the service's address
    as clients see it; None: as the request names it.
    """

    issuers: Sequence[str]
    public_url: str | None

    async def metadata(self, request: Request) -> Response:
        """The metadata document; served without credentials."""
        document: dict[str, Any] = {
            "resource": self._base(request.scope) + MCP_PATH,
            "authorization_servers": list(self.issuers),
            "scopes_supported": list(OAUTH_SCOPES),
            "bearer_methods_supported": ["header"],
            "resource_name": "Luma Memory",
        }
        headers = {"Cache-Control": f"max-age={_TTL_SECONDS}"}
        return JSONResponse(document, headers=headers)

    def challenge(self, scope: Scope, error: Unauthenticated) -> str:
        """The header WWW-Authenticate of a response 401.

        A host whose token was refused gets a new one; one without a token has made no error
        (RFC 6750).
        """
        url = self._base(scope) + METADATA_PATHS[1]
        is_refused = error.code != "credentials_missing"
        error_code = 'error="invalid_token", ' if is_refused else ""
        return f'Bearer {error_code}resource_metadata="{url}", scope="{" ".join(OAUTH_SCOPES)}"'

    def scope_challenge(self, scope: Scope, caller: Caller, error: PermissionMissing) -> str | None:
        """The header WWW-Authenticate of a response 403: the OAuth scopes to request.

        They include those the caller has, which a new token would otherwise lose. None if no token
        has the permission.
        """
        if error.permission not in OAUTH_SCOPES.values():
            return None
        needed = {*caller.permissions, error.permission}
        names = " ".join(name for name, permission in OAUTH_SCOPES.items() if permission in needed)
        url = self._base(scope) + METADATA_PATHS[1]
        return f'Bearer error="insufficient_scope", scope="{names}", resource_metadata="{url}"'

    def _base(self, scope: Scope) -> str:
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        base = Request(scope).base_url
        return f"{base.scheme}://{base.netloc}"
