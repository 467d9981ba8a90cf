"""A process that has imported the whole service and forks for each command that a test starts.

Nine tenths of a process's start are imports, and a test run starts hundreds of processes. What is
forked is what `python -m MODULE` would be: its own process and child of the test process, with the
arguments, environment, folder, files and session that the test chose, and the module's own entry
point from its first line. `tests.support.forked_commands` asks for it, over the socket on standard
input.

Nothing may run here beside this thread, and nothing that belongs to one process may be open: no
model, no connection, no event loop.
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import os
import platform
import runpy
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

SERVICE_MODULES: Final = ("luma_memory.api", "luma_memory.worker")
CLI_MODULE: Final = "luma_memory.cli"
MESSAGE_BYTES_MAX: Final = 1 << 18
# From linux/sched.h and linux/prctl.h.
_CLONE_PARENT: Final = 0x00008000
_CLONE_CHILD_CLEARTID: Final = 0x00200000
_CLONE_CHILD_SETTID: Final = 0x01000000
_PR_GET_TID_ADDRESS: Final = 40
_SYS_CLONE: Final = {"x86_64": 56, "aarch64": 220}


@dataclass(frozen=True, slots=True)
class Command:
    """A process to be started; its standard input, output and error are sent along."""

    module: str
    arguments: list[str]
    environment: dict[str, str]
    folder: str
    new_session: bool
    safe_path: bool  # as with `python -P`

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, received: bytes) -> Command:
        return cls(**json.loads(received))


def is_supported() -> bool:
    """Elsewhere every command is a new interpreter."""
    return sys.platform == "linux" and platform.machine() in _SYS_CLONE


def _import_everything() -> None:
    for name in SERVICE_MODULES:
        import_module(f"{name}.__main__")
        # Each process executes it itself.
        del sys.modules[f"{name}.__main__"]
    import_module("luma_memory.cli.main")
    commands = import_module("luma_memory.cli.commands")
    for command in commands.COMMANDS:
        commands.load_command(command)
    import_module("luma_memory.api.agents").load_agents()
    import_module("luma_memory.providers.completion.extract.question").load_language_data()
    import_module("luma_memory.providers.embedding.local")
    if import_module("luma_memory.mcp").is_installed():
        import_module("luma_memory.mcp.stdio")


def _fork_sibling() -> int:
    """As `os.fork`, but the new process is a child of this one's parent, which can wait for it.

    The flags are those of glibc's fork, with CLONE_PARENT.
    """
    libc: Any = ctypes.PyDLL(None)
    thread_id = ctypes.c_void_p()
    if libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(thread_id), 0, 0, 0) != 0:
        raise OSError("the kernel does not return the address of the thread's id")
    flags = _CLONE_PARENT | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID | signal.SIGCHLD
    # Parent's thread id and thread-local storage stay unused; their order depends on the machine.
    last = (thread_id, None) if platform.machine() == "x86_64" else (None, thread_id)
    arguments = (_SYS_CLONE[platform.machine()], flags, None, None, *last)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid: int = libc.syscall(*(_long(argument) for argument in arguments))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError("clone failed")
    return pid


def _long(argument: int | ctypes.c_void_p | None) -> ctypes.c_void_p:
    return argument if isinstance(argument, ctypes.c_void_p) else ctypes.c_void_p(argument)


def _become(command: Command, files: list[int], set_by_imports: Mapping[str, str]) -> None:
    """Take over what a new interpreter is given."""
    if command.new_session:
        os.setsid()
    for target, source in enumerate(files):
        os.dup2(source, target)
        os.close(source)
    os.chdir(command.folder)
    os.environ.clear()
    os.environ.update(set_by_imports)
    os.environ.update(command.environment)
    _open_streams(unbuffered=bool(command.environment.get("PYTHONUNBUFFERED")))
    sys.argv = ["-m", *command.arguments]
    if not command.safe_path:
        sys.path.insert(0, command.folder)


def _open_streams(*, unbuffered: bool) -> None:
    source = io.BufferedReader(io.FileIO(0, closefd=False))
    sys.stdin = io.TextIOWrapper(source, encoding="utf-8")
    sys.stdout = _writer(1, "strict", unbuffered=unbuffered)
    sys.stderr = _writer(2, "backslashreplace", unbuffered=unbuffered)


def _writer(fd: int, errors: str, *, unbuffered: bool) -> io.TextIOWrapper:
    file = io.FileIO(fd, "w", closefd=False)
    return io.TextIOWrapper(
        file if unbuffered else io.BufferedWriter(file),
        encoding="utf-8",
        errors=errors,
        newline="\n",
        line_buffering=fd == 2,
        write_through=unbuffered,
    )


def _next_command(requests: socket.socket, set_by_imports: Mapping[str, str]) -> Command | None:
    """The command that this process, forked for it, has become; None at the end of requests."""
    while True:
        received, files, _, _ = socket.recv_fds(requests, MESSAGE_BYTES_MAX, 3)
        if not received:
            return None
        end_of_start, starting = os.pipe()
        pid = _fork_sibling()
        if pid == 0:
            requests.close()
            os.close(end_of_start)
            command = Command.from_bytes(received)
            _become(command, files, set_by_imports)
            os.close(starting)
            return command
        for file in (starting, *files):
            os.close(file)
        # Only then does it lead its session, as a process that Popen returns does.
        os.read(end_of_start, 1)
        os.close(end_of_start)
        requests.send(str(pid).encode())


def _prepare() -> dict[str, str]:
    """Import everything; the environment variables that were set by it."""
    before = dict(os.environ)
    _import_everything()
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise SystemExit(f"An import started a thread ({threads} run): a fork would lose it")
    # Collections in the forked processes would copy every page of the imported modules.
    gc.collect()
    gc.freeze()
    return {name: value for name, value in os.environ.items() if before.get(name) != value}


def _main() -> Command | None:
    requests = socket.socket(fileno=os.dup(0))
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    try:
        set_by_imports = _prepare()
        requests.send(json.dumps(set_by_imports).encode())
        return _next_command(requests, set_by_imports)
    except KeyboardInterrupt:  # Ctrl-C in the terminal of the tests
        return None


if __name__ == "__main__":
    started = _main()
    if started is not None:
        runpy.run_module(started.module, run_name="__main__", alter_sys=True)
