"""Facts about the server from outside: its pid file and its process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

# Lines of postmaster.pid, from 0; see PostgreSQL's src/include/utils/pidfile.h.
_LINE_PID, _LINE_SOCKET_FOLDER, _LINE_STATUS = 0, 4, 7


@dataclass(frozen=True, slots=True)
class PidFile:
    """The server's own pid file, which is outdated after the server was killed.

    socket_folder: None before it listens. ready: also while it restarts itself after a crash.
    """

    pid: int
    socket_folder: Path | None
    ready: bool


def read_pid_file(path: Path) -> PidFile | None:
    """None if the file is missing, or truncated by a full disk or a crash. Raises OSError."""
    try:
        lines = [line.strip() for line in path.read_text(errors="surrogateescape").splitlines()]
    except FileNotFoundError:
        return None
    lines += [""] * (_LINE_STATUS + 1 - len(lines))
    if not lines[_LINE_PID].isdigit():
        return None
    folder = lines[_LINE_SOCKET_FOLDER]
    return PidFile(
        int(lines[_LINE_PID]), Path(folder) if folder else None, lines[_LINE_STATUS] == "ready"
    )


def may_serve(pid: int, cluster: Path) -> bool:
    """Whether process `pid` can be the postmaster of `cluster`, not a later one with the same
    number.

    True in doubt: callers remove files and send signals only if it is certain.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or process.name() != "postgres":
            return False
        arguments = process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # denied: a process of another account
        return False
    # The server's other processes show their activity instead of their arguments.
    if not arguments or arguments[0].startswith("postgres: "):
        return False
    return "-D" not in arguments or _folder_argument(arguments) == cluster.resolve()


def _folder_argument(arguments: list[str]) -> Path | None:
    following = arguments[arguments.index("-D") + 1 :]
    return Path(following[0]).resolve() if following else None
