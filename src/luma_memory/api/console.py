"""The web console at /ui: static files of the package, under a strict content security policy.

The files need no credentials: they hold no data, and the pages call the API with the key that the
operator enters. Without the files, in a checkout in which they were not built, and with
MEMORY_CONSOLE_ENABLED=false, every path is 404 with a code of its own.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from fastapi import FastAPI, Request, Response

from luma_memory.domain.errors import NotFound

CONSOLE_PATH: Final = "/ui"
CONSOLE_FOLDER: Final = "/ui/"
_START: Final = "index.html"
# The build names these by their content, so a browser may keep them.
_NAMED_BY_CONTENT: Final = "assets/"
_COMPRESSED_FROM_BYTES: Final = 1_000
# Systems differ in what they know.
_MEDIA_TYPES: Final = {
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
# No inline script or style, nothing from another host, in no frame.
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " connect-src 'self'; img-src 'self' data:; font-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class ConsoleFile:
    """A file as it is sent."""

    content: bytes
    media_type: str
    etag: str
    cache_control: str

    @cached_property
    def compressed(self) -> bytes | None:
        """None if compression saves little. Computed once, when a browser asks for this file."""
        if len(self.content) < _COMPRESSED_FROM_BYTES:
            return None
        # Without the time, so that all processes send the same bytes.
        packed = gzip.compress(self.content, mtime=0)
        return packed if len(packed) < 0.9 * len(self.content) else None


def console_files(folder: Traversable) -> Mapping[str, ConsoleFile]:
    """All files below a folder, by their path in it; none of a folder that does not exist."""
    return {name: _file(name, found.read_bytes()) for name, found in _below(folder, "")}


@cache
def packaged_files() -> Mapping[str, ConsoleFile]:
    """The built console, read once."""
    return console_files(files("luma_memory") / "console" / "static")


def add_console(app: FastAPI) -> None:
    """Serve the console. The files are read at the first request."""

    async def folder(request: Request) -> Response:
        _check(request)
        # Relative, so that it holds behind a proxy that adds a path.
        return Response(status_code=307, headers={**_HEADERS, "Location": "ui/"})

    async def file(request: Request, name: str = "") -> Response:
        found = _check(request).get(_served(name))
        if found is None:
            raise NotFound("The console has no such file", code="console_file_not_found")
        return _response(request, found)

    app.add_api_route(CONSOLE_PATH, folder, include_in_schema=False)
    app.add_api_route(CONSOLE_FOLDER + "{name:path}", file, include_in_schema=False)


def _check(request: Request) -> Mapping[str, ConsoleFile]:
    if not request.app.state.service.settings.console_enabled:
        raise NotFound("MEMORY_CONSOLE_ENABLED is false", code="console_disabled")
    found: Mapping[str, ConsoleFile] = request.app.state.console()
    if _START not in found:
        raise NotFound(
            "This installation has no console: it was not built into the package",
            code="console_not_built",
        )
    return found


def _served(name: str) -> str:
    """The file of a path: a path without an extension is a page of the console."""
    return name if "." in name.rpartition("/")[2] else _START


def _response(request: Request, found: ConsoleFile) -> Response:
    headers = {
        **_HEADERS,
        "ETag": found.etag,
        "Cache-Control": found.cache_control,
        "Vary": "Accept-Encoding",
    }
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if found.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(found.compressed, media_type=found.media_type, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)


def _below(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    if not folder.is_dir():
        return []
    found: list[tuple[str, Traversable]] = []
    for one in folder.iterdir():
        if one.is_dir():
            found += _below(one, f"{prefix}{one.name}/")
        else:
            found.append((prefix + one.name, one))
    return found


def _file(name: str, content: bytes) -> ConsoleFile:
    ending = "." + name.rpartition(".")[2]
    guessed = _MEDIA_TYPES.get(ending) or mimetypes.guess_type(name)[0]
    is_fixed = name.startswith(_NAMED_BY_CONTENT)
    return ConsoleFile(
        content,
        guessed or "application/octet-stream",
        # Weak: both encodings have it.
        f'W/"{hashlib.sha256(content).hexdigest()[:24]}"',
        "public, max-age=31536000, immutable" if is_fixed else "no-cache",
    )
