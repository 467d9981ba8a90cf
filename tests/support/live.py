"""The service that is shared by the tests of deployment files."""

from __future__ import annotations

from dataclasses import dataclass

from luma_memory.cli.processes import Stack


@dataclass(frozen=True, slots=True)
class Live:
    """API and worker, and the port of the worker's probe."""

    stack: Stack
    worker_port: int
