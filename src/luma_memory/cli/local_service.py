"""The service that `luma-memory mcp` starts in the background; see `local_sessions`."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from luma_memory.bootstrap.private_files import write_private_text
from luma_memory.cli.connection_file import CONNECTION_FILE, SERVICE_LOCK
from luma_memory.cli.local_sessions import LINGER_SECONDS, SESSIONS_LOCK, say
from luma_memory.cli.processes import Stack
from luma_memory.concurrency.file_lock import FileLock
from luma_memory.domain.errors import SetupError
from luma_memory.settings import Settings

_KEY_BYTES: Final = 32


def main() -> int:
    """Run the service until it was idle for a while; started in the background by `_start`."""
    settings = Settings()
    folder = settings.data_folder
    lock = FileLock(folder / SERVICE_LOCK)
    # A session that checks whether a service runs holds the lock for a moment.
    if not lock.acquire(wait_seconds=2.0):
        return 0  # another session was faster
    try:
        asyncio.run(_run(settings, folder))
    except SetupError as error:
        say(str(error))
        return 1
    finally:
        (folder / CONNECTION_FILE).unlink(missing_ok=True)
        lock.release()
    return 0


async def _run(settings: Settings, folder: Path) -> None:
    connection = folder / CONNECTION_FILE
    connection.unlink(missing_ok=True)
    key = secrets.token_urlsafe(_KEY_BYTES)
    own = settings.model_copy(
        update={
            "host": "127.0.0.1",
            "port": 0,
            "database_url": None,
            # Other users of this machine can reach the port.
            "admin_key": SecretStr(key),
            "auth_disabled": False,
            # If this process is killed, calls continue while a session starts another service.
            "stop_with_parent_seconds": LINGER_SECONDS,
        }
    )
    stack = Stack(own, spare=own.spare_process, on_line=lambda name, line: say(f"{name}: {line}"))
    await stack.start()
    watching = asyncio.create_task(stack.watch())
    try:
        text = json.dumps({"url": stack.base_url, "key": key, "pid": os.getpid()})
        partial = connection.with_suffix(".new")
        write_private_text(partial, text)
        partial.replace(connection)
        say("ready")
        idle = asyncio.create_task(_until_idle(folder, settings.mcp_idle_seconds))
        done, _ = await asyncio.wait([watching, idle], return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        for task in done:
            task.result()
    finally:
        connection.unlink(missing_ok=True)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await stack.stop()


async def _until_idle(folder: Path, seconds: float) -> None:
    """Return once no session was open for that long; no session can find the service then."""
    free_since: float | None = None
    while True:
        await asyncio.sleep(min(1.0, seconds / 4))
        lock = FileLock(folder / SESSIONS_LOCK)
        if not lock.acquire():
            free_since = None
            continue
        try:
            free_since = free_since or time.monotonic()
            if time.monotonic() - free_since >= seconds:
                # Under the lock: a session that begins now finds no service and starts another.
                (folder / CONNECTION_FILE).unlink(missing_ok=True)
                return
        finally:
            lock.release()


if __name__ == "__main__":
    raise SystemExit(main())
