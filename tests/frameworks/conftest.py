"""A service for the tests of adapters, which run in an environment of their own.

The frameworks' packages are not those that the service is tested with, so the service runs in its
own environment (.venv) and the adapters call it over HTTP, as they do elsewhere.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

os.environ["CREWAI_DISABLE_TELEMETRY"] = "true"
os.environ["OTEL_SDK_DISABLED"] = "true"
ROOT = Path(__file__).parents[2]
READY = "ready on "


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running service without keys: database, API and worker."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data_dir = tmp_path_factory.mktemp("service") / "data"
    command = [ROOT / ".venv" / "bin" / "luma-memory", "up", "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(
        [*map(str, command), "--data-dir", str(data_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as service:
        assert service.stdout is not None
        lines = []
        for line in service.stdout:
            lines.append(line)
            if READY in line:
                break
        else:
            pytest.fail("the service did not start:\n" + "".join(lines))
        # A full pipe would stop the service.
        drain = subprocess.Popen(["cat"], stdin=service.stdout, stdout=subprocess.DEVNULL)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            service.terminate()
            service.wait()
            drain.wait()


@pytest.fixture
def user() -> str:
    return f"user-{uuid4()}"
