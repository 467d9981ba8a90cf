"""What `luma-memory hook` does at an event of a coding agent.

The host's JSON is read from standard input, its JSON is written to standard output, and the exit
code is always 0: an unavailable memory must never stop the host. A call has a second from the start
of its interpreter, so this module and what it imports need the standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, NoReturn

from luma_memory.cli.connection_file import LOCAL_USER, running_service
from luma_memory.cli.hook_calls import HookCalls, RejectedError
from luma_memory.cli.hook_settings import HookSettings, hook_settings
from luma_memory.cli.redaction import redacted_beginning
from luma_memory.cli.transcripts import last_turns

# From the start of the interpreter until the reply. What follows has the rest of a second.
SECONDS_MAX: Final = 0.8
TOKEN_BUDGET: Final = 800
SOURCE: Final = "claude-code"
# A process that started long ago, on a busy machine, still gets this much.
_SECONDS_MIN: Final = 0.1
_LOG_SECONDS_MAX: Final = 0.15
_INPUT_BYTES_MAX: Final = 1 << 20
_PROMPT_CHARACTERS_MAX: Final = 2_000
_TURN_CHARACTERS_MAX: Final = 20_000
_LOG_FILE: Final = "hook.log"
_NOTICE_FILE: Final = "hook-notice-shown"
_LOG_BYTES_MAX: Final = 1 << 20
_RECALLING: Final = ("SessionStart", "UserPromptSubmit")
_STORING: Final = ("Stop", "SessionEnd")
_SWITCH_OFF: Final = (
    "Luma Memory adds relevant memories to this session and stores its turns. To switch it off,"
    " set MEMORY_HOOK_ENABLED=false or disable the plugin. This notice is shown once."
)


class NoServiceError(Exception):
    """No service is running. The hook starts none: the plugin's server does."""


def run_hook(event: str) -> NoReturn:
    """Handle one event and end the process with code 0."""
    reply = _Reply(event)
    seconds = max(_SECONDS_MIN, SECONDS_MAX - _process_age_seconds())
    watchdog = threading.Timer(seconds, reply.end, args=("timed out",))
    watchdog.daemon = True
    watchdog.start()
    problem: str | None = None
    try:
        settings = hook_settings()
        reply.folder = settings.data_folder
        if settings.enabled:
            given = json.loads(sys.stdin.buffer.read(_INPUT_BYTES_MAX))
            reply.document = _handled(event, given, settings, seconds)
    except (RejectedError, NoServiceError) as error:
        problem = f"{type(error).__name__} {error}"
    except (HTTPException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = type(error).__name__  # its text may quote the input
    reply.end(problem)


class _Reply:
    """Written exactly once, by the handler or by the watchdog."""

    def __init__(self, event: str) -> None:
        self.document: Mapping[str, Any] = {}
        self.folder: Path | None = None
        self._event = event
        self._once = threading.Lock()

    def end(self, problem: str | None) -> NoReturn:
        """Write the reply and end the process, whatever else still hangs."""
        if not self._once.acquire(blocking=False):
            threading.Event().wait()  # the other one is about to end the process
        os.write(1, json.dumps(self.document).encode() + b"\n")
        if problem is not None and self.folder is not None:
            # In a thread: the folder may be what hangs.
            line = f"{self._event[:40]!r}: {problem}".replace("'", "")
            logging = threading.Thread(target=_log, args=(self.folder, line), daemon=True)
            logging.start()
            logging.join(_LOG_SECONDS_MAX)
        os._exit(0)


def _handled(
    event: str, given: Mapping[str, Any], settings: HookSettings, seconds: float
) -> Mapping[str, Any]:
    if event not in (*_RECALLING, *_STORING):
        return {}
    calls = _calls(settings, seconds)
    if event in _STORING:
        if blocks := _blocks(given):
            calls.store(blocks)
        return {}
    return _recalled(calls, event, given, settings, seconds)


def _calls(settings: HookSettings, seconds: float) -> HookCalls:
    user_id = settings.user_id or LOCAL_USER
    if settings.api_url is not None:
        return HookCalls(settings.api_url, settings.key, user_id, seconds_max=seconds)
    found = running_service(settings.data_folder)
    if found is None:
        raise NoServiceError("service_starting")
    return HookCalls(found.url, found.key, user_id, seconds_max=seconds)


def _recalled(
    calls: HookCalls,
    event: str,
    given: Mapping[str, Any],
    settings: HookSettings,
    seconds: float,
) -> Mapping[str, Any]:
    if event == "SessionStart":
        query = f"Decisions, conventions and open work of the project {_project(given)}"
    else:
        query = redacted_beginning(str(given["prompt"]), _PROMPT_CHARACTERS_MAX)
    if not query.strip():
        return {}
    text = calls.context(query, token_budget=TOKEN_BUDGET, timeout_ms=max(1, int(seconds * 1_000)))
    document: dict[str, Any] = {}
    if text:
        document["hookSpecificOutput"] = {"hookEventName": event, "additionalContext": text}
    if _is_first(settings.data_folder):
        document["systemMessage"] = _SWITCH_OFF
    return document


def _blocks(given: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for turn in last_turns(Path(str(given["transcript_path"])).expanduser()):
        block: dict[str, Any] = {
            "content": redacted_beginning(turn.text, _TURN_CHARACTERS_MAX),
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


def _process_age_seconds() -> float:
    """Since this process was started; 0 where the system does not report it."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
        # After the name, which may contain spaces, the 20th field: ticks since the system's start.
        ticks = int(fields.rpartition(")")[2].split()[19])
        started = ticks / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
