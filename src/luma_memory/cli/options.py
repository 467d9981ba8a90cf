"""Options shared by several commands, and the settings they override."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luma_memory.settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        file_okay=False,
        help="Directory of the embedded database (MEMORY_DATA_DIR); ignored with DATABASE_URL.",
    ),
]
Host = Annotated[
    str | None,
    typer.Option("--host", metavar="HOST", help="Address to listen on (MEMORY_HOST)."),
]
Port = Annotated[
    int | None,
    typer.Option(
        "--port",
        metavar="PORT",
        min=0,
        max=65_535,
        help="Port to listen on (MEMORY_PORT); 0 picks a free one.",
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="URL of the service; defaults to MEMORY_HOST:MEMORY_PORT."
    ),
]
User = Annotated[
    str, typer.Option("--user", metavar="USER", help="Your application's id of the end user.")
]


def service_url(url: str | None, settings: Settings) -> str:
    """The base URL of the service, without a path or a trailing slash."""
    if url is not None:
        return (url if "://" in url else f"http://{url}").rstrip("/")
    return f"http://{reachable_host(settings.host)}:{settings.port}"


def reachable_host(host: str) -> str:
    """The host part of a URL that reaches a server bound to `host` on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - only compared
    return f"[{host}]" if ":" in host else host
