"""Where the service listens that the sessions of a data directory share.

Standard library only: a hook of a coding agent imports it within its second.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, NamedTuple

from luma_memory.concurrency.file_lock import is_locked

# The user of sessions that name none.
LOCAL_USER: Final = "local"
CONNECTION_FILE: Final = "mcp-service.json"
# Held by the service from before it starts until its last process has ended.
SERVICE_LOCK: Final = ".mcp-service"


class Connection(NamedTuple):
    """Address and key of a ready service, as in the connection file."""

    url: str
    key: str
    pid: int

    def __repr__(self) -> str:
        return f"Connection({self.url!r})"  # no key in a log


def running_service(folder: Path) -> Connection | None:
    """The ready service of the data directory; starts none. Raises OSError for the lock file."""
    try:
        record = json.loads((folder / CONNECTION_FILE).read_text(encoding="utf-8"))
        found = Connection(str(record["url"]), str(record["key"]), int(record["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if is_locked(folder / SERVICE_LOCK) else None
