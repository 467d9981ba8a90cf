"""Start the service's own commands as forks of a process that has imported them.

It replaces the one step of `subprocess.Popen` that starts an interpreter: for `python -m
luma_memory.api`, `.worker` and `.cli` with nothing unusual about them. Whatever it does not know to
be the same after a fork is started as usual: another interpreter, a terminal, a variable that a
library may read when it is imported. So is every command of a test with
`pytest.mark.new_interpreters`.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from socket import AF_UNIX, SOCK_SEQPACKET, send_fds, socketpair
from typing import Any, Final

from tests.support.fork_server import CLI_MODULE, SERVICE_MODULES, Command, is_supported

_MODULES: Final = (*SERVICE_MODULES, CLI_MODULE)
_PROGRAM: Final = Path(__file__).with_name("fork_server.py")
# Read when a process starts, not when a module is imported.
_READ_AT_START: Final = ("MEMORY_", "OPENAI_", "DATABASE_URL", "PG", "REDIS_URL")
_READ_AT_START_TOO: Final = {
    "HOME",
    "PATH",
    "PYTHONUNBUFFERED",
    "PYTEST_CURRENT_TEST",
    "TMPDIR",
    "TOKENIZERS_PARALLELISM",  # set by this project when it loads a model
}
_USUAL: Final[Mapping[str, object]] = {
    "executable": None,
    "preexec_fn": None,
    "close_fds": True,
    "pass_fds": (),
    "startupinfo": None,
    "shell": False,
    "restore_signals": True,
    "gid": None,
    "gids": None,
    "uid": None,
    "umask": -1,
    "process_group": -1,
}
_start_interpreter: Final = subprocess.Popen.__dict__["_execute_child"]
_signature: Final = inspect.signature(_start_interpreter)


class ForkedCommands:
    """Starts the fork server when it is first needed."""

    def __init__(self) -> None:
        self.enabled = is_supported() and "COVERAGE_PROCESS_START" not in os.environ
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._environment = dict(os.environ)
        self._set_by_imports: dict[str, str] = {}
        self._requests, self._theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)

    def install(self) -> None:
        """Let `subprocess.Popen`, and with it asyncio, fork what can be forked."""
        commands = self

        def execute_child(popen: Any, *positional: Any, **named: Any) -> None:
            options = _signature.bind(popen, *positional, **named).arguments
            command = commands.forkable(options)
            if command is None:
                _start_interpreter(popen, *positional, **named)
                return
            files = [
                theirs if theirs != -1 else own
                for own, theirs in enumerate(
                    options[name] for name in ("p2cread", "c2pwrite", "errwrite")
                )
            ]
            popen.pid = commands.start(command, files)
            popen._child_created = True
            ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
            popen._close_pipe_fds(*(options[name] for name in ends))

        vars(subprocess)["Popen"]._execute_child = execute_child

    def forkable(self, options: Mapping[str, Any]) -> Command | None:
        """The command, if a fork is the same as a new interpreter."""
        if not self.enabled or any(options[name] != usual for name, usual in _USUAL.items()):
            return None
        words = options["args"]
        if not isinstance(words, list | tuple) or not words or words[0] != sys.executable:
            return None
        words = [os.fspath(word) for word in words[1:]]
        safe_path = words[:1] == ["-P"]
        words = words[safe_path:]
        if len(words) < 2 or words[0] != "-m" or words[1] not in _MODULES:
            return None
        environment = dict(os.environ if options["env"] is None else options["env"])
        folder = Path(options["cwd"] or ".").absolute()
        files = [options[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        if not (
            self._is_same_to_imports(environment)
            and folder.is_dir()
            and not any(os.isatty(own if fd == -1 else fd) for own, fd in enumerate(files))
        ):
            return None
        return Command(
            words[1],
            words[2:],
            environment,
            str(folder),
            bool(options["start_new_session"]),
            safe_path,
        )

    def start(self, command: Command, files: list[int]) -> int:
        """The process id of a new child of this process."""
        with self._lock:
            send_fds(self._requests, [command.to_bytes()], files)
            return int(self._receive())

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Every command is a new interpreter."""
        before, self.enabled = self.enabled, False
        try:
            yield
        finally:
            self.enabled = before

    def close(self) -> None:
        vars(subprocess)["Popen"]._execute_child = _start_interpreter
        self._requests.close()
        self._theirs.close()
        if self._server is not None:
            self._server.wait()

    def _start_server(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM)],
            stdin=self._theirs.fileno(),
            env=self._environment,
        )
        self._theirs.close()
        self._set_by_imports = json.loads(self._receive())

    def _receive(self) -> bytes:
        received = self._requests.recv(4096)
        if not received:
            raise RuntimeError("the fork server has ended; its last lines are on standard error")
        return received

    def _is_same_to_imports(self, environment: Mapping[str, str]) -> bool:
        with self._lock:
            if self._server is None:
                self._start_server()
        # Imports of this process set them as well.
        known, given = ({**self._set_by_imports, **of} for of in (self._environment, environment))
        return all(
            name.startswith(_READ_AT_START) or name in _READ_AT_START_TOO
            for name, _ in known.items() ^ given.items()
        )
