"""The wheel in an environment with the client's requirements and nothing else."""

from __future__ import annotations

import subprocess
import sys
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from tests.support.live import Live

import luma_memory

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.asyncio(loop_scope="session")
SCRIPT = """
import sys
from luma_memory.client import MemoryClient

with MemoryClient(sys.argv[1]) as memory:
    block = memory.ingest_block(
        {"user_id": "wheel", "content": "Grete keeps bees behind the mill."}
    )
    found = memory.get_context("What does Grete keep?", user_id="wheel")
assert "bees" in found.text, found
foreign = {"asyncpg", "fastapi", "numpy", "typer", "pydantic_settings"} & set(sys.modules)
assert not foreign, foreign
print(block.id)
"""


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def client_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the wheel and the pinned requirements of the client."""
    folder = tmp_path_factory.mktemp("client") / "venv"
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
    only = ("--require-hashes", "--only-binary", ":all:")
    run(*pip, *only, "-r", ROOT / "requirements" / "client.txt")
    run(*pip, "--no-index", wheel)
    return python


async def test_the_metadata_is_that_of_a_typed_client(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = Parser().parsestr(archive.read(path).decode())
        assert "luma_memory/py.typed" in archive.namelist()
    required = metadata.get_all("Requires-Dist", [])
    always = [line for line in required if "extra ==" not in line]
    assert [line.split(">")[0] for line in always] == ["httpx2", "pydantic"]
    assert metadata["Version"] == luma_memory.__version__
    assert {"server", "local", "embedded", "tracing", "all"} <= set(
        metadata.get_all("Provides-Extra", [])
    )
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])


async def test_it_calls_a_running_service(client_python: Path, live: Live) -> None:
    done = run(client_python, "-I", "-c", SCRIPT, live.stack.base_url)
    assert len(done.stdout.strip()) == 36


@pytest.mark.parametrize("arguments", [["up"], ["--version"], []])
async def test_a_command_names_the_extra_that_it_needs(
    client_python: Path, arguments: list[str]
) -> None:
    done = run(client_python.parent / "luma-memory", *arguments, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("which is not installed: pip install 'luma-memory[server]'\n")
