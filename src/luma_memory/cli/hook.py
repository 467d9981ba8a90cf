"""`hook`: what a coding agent's plugin calls at the events of a session.

The host's JSON is read from standard input, its JSON is written to standard output, and the exit
code is always 0: an unavailable memory must never stop the host.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import SecretStr

from luma_memory.cli.commands import examples
from luma_memory.cli.local_sessions import LOCAL_USER, running_service
from luma_memory.cli.redaction import redacted
from luma_memory.cli.transcripts import last_turns
from luma_memory.client import NO_RETRIES, AsyncMemoryClient
from luma_memory.domain.errors import LumaMemoryError, UnavailableError
from luma_memory.settings import Settings, load_settings

# The host waits; with the start of the interpreter this stays below a second.
SECONDS_MAX: Final = 0.7
TOKEN_BUDGET: Final = 800
SOURCE: Final = "claude-code"
_INPUT_BYTES_MAX: Final = 1 << 20
_PROMPT_CHARACTERS_MAX: Final = 2_000
_LOG_FILE: Final = "hook.log"
_NOTICE_FILE: Final = "hook-notice-shown"
_LOG_BYTES_MAX: Final = 1 << 20
_RECALLING: Final = ("SessionStart", "UserPromptSubmit")
_STORING: Final = ("Stop", "SessionEnd")
_SWITCH_OFF: Final = (
    "Luma Memory adds relevant memories to this session and stores its turns. To switch it off,"
    " set MEMORY_HOOK_ENABLED=false or disable the plugin. This notice is shown once."
)


@examples("luma-memory hook UserPromptSubmit < event.json")
def hook(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The host's name of the event.")],
) -> None:
    """Handle an event of a coding agent: JSON on standard input, JSON on standard output.

    SessionStart and UserPromptSubmit return a context. Stop and SessionEnd store the session's
    last turns, without texts that look like secrets. Takes at most a second and exits with 0; a
    failure is one line of hook.log in the data directory.
    """
    reply = _Reply()
    watchdog = threading.Timer(SECONDS_MAX, reply.end, args=(event, "timed out"))
    watchdog.daemon = True
    watchdog.start()
    try:
        reply.folder = (settings := load_settings()).data_folder
        if settings.hook_enabled:
            given = json.loads(sys.stdin.buffer.read(_INPUT_BYTES_MAX))
            reply.document = asyncio.run(_handled(event, given, settings))
    except (LumaMemoryError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reply.end(event, f"{type(error).__name__} {getattr(error, 'code', '')}".strip())
    reply.end(event, None)


class _Reply:
    """Written exactly once, by the handler or by the watchdog."""

    def __init__(self) -> None:
        self.document: Mapping[str, Any] = {}
        self.folder: Path | None = None
        self._once = threading.Lock()

    def end(self, event: str, problem: str | None) -> None:
        """Write the reply and end the process, whatever else still hangs."""
        if not self._once.acquire(blocking=False):
            threading.Event().wait()  # the other one is about to end the process
        if problem is not None and self.folder is not None:
            _log(self.folder, f"{event[:40]}: {problem}")
        os.write(1, json.dumps(self.document).encode() + b"\n")
        os._exit(0)


async def _handled(event: str, given: Mapping[str, Any], settings: Settings) -> Mapping[str, Any]:
    if event not in (*_RECALLING, *_STORING):
        return {}
    url, key, user_id = _service(settings)
    client = AsyncMemoryClient(url, api_key=key, timeout_seconds=SECONDS_MAX, retries=NO_RETRIES)
    async with client:
        if event in _STORING:
            await _store(client, user_id, given)
            return {}
        return await _recalled(client, user_id, event, given, settings)


def _service(settings: Settings) -> tuple[str, SecretStr | None, str]:
    """Address, key and user. The hook starts no service: the plugin's server does."""
    if settings.api_url is not None:
        return settings.api_url, settings.client_key, settings.mcp_user_id or LOCAL_USER
    found = running_service(settings)
    if found is None:
        raise UnavailableError("No service is running", code="service_starting")
    return found.url, found.key, settings.mcp_user_id or LOCAL_USER


async def _recalled(
    client: AsyncMemoryClient,
    user_id: str,
    event: str,
    given: Mapping[str, Any],
    settings: Settings,
) -> Mapping[str, Any]:
    if event == "SessionStart":
        query = f"Decisions, conventions and open work of the project {_project(given)}"
    else:
        query = str(given["prompt"])[:_PROMPT_CHARACTERS_MAX]
    if not query.strip():
        return {}
    context = await client.get_context(
        redacted(query),
        user_id=user_id,
        token_budget=TOKEN_BUDGET,
        synthesize=False,
        relevant_only=True,
        timeout_ms=int(SECONDS_MAX * 1_000),
    )
    document: dict[str, Any] = {}
    if context.text:
        document["hookSpecificOutput"] = {
            "hookEventName": event,
            "additionalContext": context.text,
        }
    if _is_first(settings.data_folder):
        document["systemMessage"] = _SWITCH_OFF
    return document


async def _store(client: AsyncMemoryClient, user_id: str, given: Mapping[str, Any]) -> None:
    if blocks := _blocks(user_id, given):
        await client.ingest_batch_async(blocks)


def _blocks(user_id: str, given: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for turn in last_turns(Path(str(given["transcript_path"])).expanduser()):
        block: dict[str, Any] = {
            "user_id": user_id,
            "content": redacted(turn.text),
            "speaker": turn.role,
            "session_id": str(given["session_id"]),
            "source": SOURCE,
            # A turn that is sent again at the next event is stored once.
            "external_id": f"{SOURCE}:{turn.id}",
            "metadata": {"project": _project(given)},
        }
        if turn.occurred_at is not None:
            block["occurred_at"] = turn.occurred_at
        blocks.append(block)
    return blocks


def _project(given: Mapping[str, Any]) -> str:
    return Path(str(given.get("cwd") or "unknown")).name[:100] or "unknown"


def _is_first(folder: Path) -> bool:
    """Whether the notice was not shown yet on this machine."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(folder / _NOTICE_FILE, os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        return False
    return True


def _log(folder: Path, text: str) -> None:
    """One line; a log that cannot be written is not worth an error."""
    path = folder / _LOG_FILE
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_large = path.exists() and path.stat().st_size > _LOG_BYTES_MAX
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if is_large else os.O_APPEND)
        descriptor = os.open(path, flags, 0o600)
        os.write(descriptor, f"{now} {text}\n".encode())
        os.close(descriptor)
    except OSError:
        return
