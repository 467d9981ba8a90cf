"""What the Dockerfiles say, done by hand in a fresh folder: build, start, health check, stop.

No engine is needed: /opt and /src of the image are folders of the test, both stages share them, and
commands run under the image's own user id where that is possible.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from tests.support.dockerfile import Dockerfile, environment_of

from luma_memory.cli.child import Child
from luma_memory.cli.processes import STOP_GRACE_SECONDS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ADMIN_KEY = "a-key-of-the-test-0123456789"
READY_SECONDS = 60.0
_OF_THE_IMAGE = re.compile(r"(?<![\w.])/(opt|src)(?=[/\s:]|$)")


@dataclass(frozen=True, slots=True)
class Image:
    """A folder that stands for the image's root, and how its programs are run."""

    root: Path
    environment: Mapping[str, str]

    def here(self, text: str) -> str:
        """The image's paths as paths of the folder."""
        return _OF_THE_IMAGE.sub(rf"{self.root}/\1", text)

    def build(self, file: Dockerfile) -> None:
        folder = self.root
        environment = dict(self.environment)
        for name, arguments in file.build_stage:
            match name:
                case "WORKDIR":
                    folder = Path(self.here(arguments))
                    folder.mkdir(parents=True, exist_ok=True)
                case "ENV":
                    environment |= environment_of(arguments)
                case "COPY":
                    *sources, target = arguments.split()
                    for source in sources:
                        _copy(ROOT / source, folder / target, one=len(sources) == 1)
                case "RUN":
                    subprocess.run(
                        ["sh", "-ec", self.here(arguments)], cwd=folder, env=environment, check=True
                    )
                case _:
                    assert name == "FROM"

    def running(self, file: Dockerfile, **settings: str) -> dict[str, str]:
        """The environment of a container."""
        image = {name: self.here(value) for name, value in file.environment.items()}
        image["PATH"] = image["PATH"].replace("$PATH", self.environment["PATH"])
        return {**self.environment, **image, **settings}


def _copy(source: Path, target: Path, *, one: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        return
    target = target if one and not target.is_dir() else target / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _as_user(file: Dockerfile) -> list[str]:
    """What runs a command as the image does: without rights, and with no groups.

    Nothing where this account may not change, or where Python lies in a folder closed to others.
    """
    (user,) = file.final_stage["USER"]
    uid, gid = user.split(":")
    prefix = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs"]
    # By a shell: what setpriv itself starts is looked up before the rights are gone.
    python = ["sh", "-c", '"$0" -c ""', sys.executable]
    try:
        tried = subprocess.run([*prefix, *python], stderr=subprocess.DEVNULL)
    except OSError:
        return []
    return prefix if tried.returncode == 0 else []


def _allow_all_roles(dsn: str) -> None:
    """Let the image's user reach the test's server, whose socket lies in a closed folder."""
    (folder,) = parse_qs(urlsplit(dsn).query)["host"]
    for path in (Path(folder).parent, Path(folder)):
        path.chmod(path.stat().st_mode | 0o005)
    for end in Path(folder).iterdir():
        if end.is_socket():
            end.chmod(0o777)


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    # Not pytest's folder: its parents are closed to the image's user.
    root = Path(mkdtemp(prefix="luma-image-"))
    root.chmod(0o755)
    passed_on = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    python = Path(sys.base_prefix, "bin")
    environment = {**passed_on, "PATH": f"{python}:{os.environ['PATH']}", "HOME": str(root)}
    built = Image(root, environment)
    try:
        built.build(Dockerfile.read(ROOT / "Dockerfile"))
        yield built
    finally:
        shutil.rmtree(root)


def _found(command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command with its program as the image's PATH has it, not as ours has."""
    program = shutil.which(command[0], path=environment["PATH"])
    assert program is not None
    return [program, *command[1:]]


@asynccontextmanager
async def container(
    image: Image, file: Dockerfile, **settings: str
) -> AsyncIterator[tuple[Child, list[str]]]:
    """Run the image's own command."""
    output: list[str] = []
    command = [*_as_user(file), *json.loads(file.final_stage["CMD"][0])]
    environment = image.running(file, **settings)
    command = _found(command, environment)
    child = await Child.start(
        "container", command, environment, lambda _, line: output.append(line)
    )
    try:
        yield child, output
    finally:
        await child.stop(grace_seconds=STOP_GRACE_SECONDS)


async def until_healthy(image: Image, file: Dockerfile, **settings: str) -> None:
    """Run the image's health check until it says yes."""
    check = json.loads(file.final_stage["HEALTHCHECK"][0].partition(" CMD ")[2])
    environment = image.running(file, **settings)
    async with asyncio.timeout(READY_SECONDS):
        while True:
            process = await asyncio.create_subprocess_exec(
                *_found([*_as_user(file), *check], environment),
                env=environment,
                stderr=asyncio.subprocess.DEVNULL,
            )
            if await process.wait() == 0:
                return


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Dockerfile", {"MEMORY_PORT": "18080", "MEMORY_HOST": "127.0.0.1"}),
        (
            "Dockerfile.worker",
            {"MEMORY_WORKER_METRICS_PORT": "19090", "MEMORY_WORKER_METRICS_HOST": "127.0.0.1"},
        ),
    ],
)
async def test_an_image_builds_starts_is_healthy_and_stops(
    name: str, settings: dict[str, str], image: Image, dsn: str
) -> None:
    file = Dockerfile.read(ROOT / name)
    settings |= {"DATABASE_URL": dsn, "MEMORY_ADMIN_KEY": ADMIN_KEY}
    _allow_all_roles(dsn)
    async with container(image, file, **settings) as (child, output):
        try:
            await until_healthy(image, file, **settings)
        except TimeoutError:
            raise AssertionError(output) from None
        assert await child.stop(grace_seconds=STOP_GRACE_SECONDS) == 0
    assert not any("raceback" in line for line in output)


async def test_the_migration_job_makes_the_schema(image: Image, empty_dsn: str) -> None:
    environment = image.running(Dockerfile.read(ROOT / "Dockerfile"), DATABASE_URL=empty_dsn)
    command = _found(["luma-memory", "migrate"], environment)
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    assert await process.wait() == 0
    connection = await asyncpg.connect(empty_dsn)
    assert await connection.fetchval("SELECT count(*) FROM memory_migrations") > 0
    await connection.close()


def test_the_model_came_with_the_image(image: Image) -> None:
    """Or each first start would take the better part of a minute and write where it may not."""
    assert list((image.root / "opt" / "luma-memory" / "models").iterdir())


def test_the_image_is_readable_for_every_user(image: Image) -> None:
    """Its user owns nothing of it."""
    for path in (image.root / "opt" / "luma-memory").rglob("*"):
        if not path.is_symlink():
            expected = 0o005 if path.is_dir() else 0o004
            assert path.stat().st_mode & expected == expected, path


def test_the_build_leaves_nothing_of_its_own(image: Image) -> None:
    final = Dockerfile.read(ROOT / "Dockerfile").final_stage
    assert final["COPY"] == ["--from=build /opt/luma-memory /opt/luma-memory"]
    packages = {path.name for path in (image.root / "opt" / "luma-memory").rglob("site-packages/*")}
    assert "luma_memory" in packages
    assert not packages & {"hatchling", "pytest", "mypy"}
