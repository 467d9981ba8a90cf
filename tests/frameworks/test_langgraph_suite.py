"""The tests of LangGraph's own SQLite store, with LumaStore in its place.

They are fetched from its source distribution, and not kept here. Those left out are listed in
langgraph_shim.py with the reason.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = (
    "langgraph-checkpoint-sqlite==3.1.2"
    " --hash=sha256:4e3f376fa6f192d6ad2a1a4643b039986f1593552ef870e9e45281575de6fbf2"
)
FILES = ("__init__.py", "test_store.py", "test_async_store.py")
# Of 142 with the parameters of each.
PASSED_MIN = 118


def test_the_tests_of_langgraphs_own_store_pass(url: str, tmp_path: Path) -> None:
    fetch(tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "langgraph_shim"]
    options = ["-c", str(HERE / "pytest.ini"), f"--rootdir={tmp_path}"]
    paths = os.pathsep.join([str(HERE.parents[1] / "src"), str(HERE)])
    result = subprocess.run(
        [*command, *options, str(tmp_path / "tests")],
        cwd=tmp_path,
        env={**os.environ, "LUMA_TEST_URL": url, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-6_000:] + result.stderr[-2_000:]
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed is not None
    assert int(passed[1]) >= PASSED_MIN


def fetch(folder: Path) -> None:
    """The tests' files in `folder`/tests, from the source distribution with this hash."""
    (folder / "source.txt").write_text(SOURCE)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--require-hashes"),
            *("-r", "source.txt", "-d", "source"),
        ],
        cwd=folder,
        check=True,
    )
    (archive,) = (folder / "source").iterdir()
    (folder / "tests").mkdir()
    with tarfile.open(archive) as source:
        for member in source.getmembers():
            parts = Path(member.name).parts
            if len(parts) == 3 and parts[1] == "tests" and parts[2] in FILES:
                content = source.extractfile(member)
                assert content is not None
                (folder / "tests" / parts[2]).write_bytes(content.read())
