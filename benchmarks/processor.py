"""Processor time of processes: on a shared machine it says more than the clock does."""

from __future__ import annotations

import psutil

from benchmarks.stack import Stack


async def database_process(stack: Stack) -> psutil.Process:
    """The server all connections are children of."""
    row = await stack.database.fetch_row("SELECT pg_backend_pid() AS pid")
    assert row is not None
    server = psutil.Process(row["pid"]).parent()
    assert server is not None
    return server


def processor_seconds(process: psutil.Process) -> float:
    """User and system time of a process and of its children that still run."""
    return sum(_own_seconds(one) for one in (process, *process.children(recursive=True)))


def _own_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # ended in this moment
        return 0.0
    return float(times.user + times.system)
