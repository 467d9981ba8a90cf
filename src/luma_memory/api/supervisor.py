"""Several API processes on one listening socket: restarted when killed, stopped together.

uvicorn's own supervisor starts an application by its import path and raises stop signals again
before the application is closed, so it does not fit a process that opens the service first and
closes it last.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Final

from prometheus_client.multiprocess import mark_process_dead

from luma_memory.bootstrap.http_server import listen_at
from luma_memory.domain.errors import SetupError
from luma_memory.settings import Settings, variable_name
from luma_memory.telemetry.events import Notice
from luma_memory.telemetry.logs import log_event
from luma_memory.telemetry.metrics import SHARED_METRICS_VARIABLE
from luma_memory.telemetry.processes import on_stop_signal

LISTEN_OPTION: Final = "--listen-fd"
# A process waits 10 s for open requests before it disconnects.
STOP_GRACE_SECONDS: Final = 20.0
# Processes that are killed more often than this within the time are not restarted.
_KILLS_MAX: Final = 5
_KILLS_SECONDS: Final = 60.0


async def supervise(settings: Settings, module: str) -> None:
    """Run `settings.api_processes` processes of the module until a stop signal.

    Raises SetupError for an unusable address, and when a process exits by itself: it would fail
    again for the same reason.
    """
    listening = listen_at(settings.host, settings.port)
    with listening, tempfile.TemporaryDirectory(prefix="luma-memory-metrics-") as metrics:
        supervisor = _Supervisor(settings, module, listening, metrics)
        try:
            await supervisor.run()
        finally:
            await supervisor.stop()


class _Supervisor:
    def __init__(
        self, settings: Settings, module: str, listening: socket.socket, metrics: str
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._fd = listening.fileno()
        self._command = [sys.executable, "-P", "-m", module, LISTEN_OPTION, str(self._fd)]
        self._processes: list[Process] = []
        self._stopping = asyncio.Event()
        self._kills: list[float] = []

    async def run(self) -> None:
        on_stop_signal(self._stopping.set, with_parent=self._settings.stop_with_parent)
        for _ in range(self._settings.api_processes):
            self._processes.append(await self._start())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while not self._stopping.is_set():
                await self._until_exit(stopping)
                if not self._stopping.is_set():
                    await self._restart_killed()
        finally:
            stopping.cancel()

    async def stop(self) -> None:
        """Terminate all processes, and kill those that take too long."""
        running = self._running()
        for process in running:
            process.send_signal(signal.SIGTERM)
        exits = [asyncio.create_task(process.wait()) for process in running]
        if exits:
            await asyncio.wait(exits, timeout=STOP_GRACE_SECONDS)
        for process in self._running():
            process.kill()
        await asyncio.gather(*exits)

    def _running(self) -> Sequence[Process]:
        return [process for process in self._processes if process.returncode is None]

    async def _start(self) -> Process:
        environment = os.environ | {
            # The end of its standard input, when this process ends however it may.
            variable_name("stop_with_parent"): "true",
            SHARED_METRICS_VARIABLE: self._metrics,
        }
        return await asyncio.create_subprocess_exec(
            *self._command, env=environment, stdin=PIPE, pass_fds=[self._fd]
        )

    async def _until_exit(self, stopping: asyncio.Task[bool]) -> None:
        exits = [asyncio.create_task(process.wait()) for process in self._processes]
        try:
            await asyncio.wait([*exits, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in exits:
                task.cancel()
            await asyncio.gather(*exits, return_exceptions=True)

    async def _restart_killed(self) -> None:
        for number, process in enumerate(self._processes):
            if (code := process.returncode) is None:
                continue
            now = time.monotonic()
            self._kills = [at for at in self._kills if at > now - _KILLS_SECONDS]
            if code >= 0 or len(self._kills) >= _KILLS_MAX:
                raise SetupError(f"An API process exited with code {code}", code="process_ended")
            self._kills.append(now)
            name = signal.Signals(-code).name
            log_event(Notice(f"An API process was terminated by {name}, restarting it"))
            mark_process_dead(process.pid, self._metrics)  # type: ignore[no-untyped-call]
            self._processes[number] = await self._start()
