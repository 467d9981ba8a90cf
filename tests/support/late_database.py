"""A database that becomes reachable while a process starts."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit


def behind(link: Path, dsn: str) -> str:
    """The address of the same database through a path that is not there yet."""
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    return (
        f"postgresql://{parts.netloc}{parts.path}?host={quote(str(link))}&port={query['port'][0]}"
    )


def let_in(link: Path, dsn: str) -> None:
    """From now on the path leads to the server."""
    link.symlink_to(parse_qs(urlsplit(dsn).query)["host"][0])
