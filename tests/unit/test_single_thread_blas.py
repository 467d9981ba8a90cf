"""The API and the worker keep BLAS to the calling thread, before anything imports numpy."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHECK = """
import importlib.abc, os, sys

class Guard(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print(os.environ.get("OPENBLAS_NUM_THREADS"))
        return None

sys.meta_path.insert(0, Guard())
import luma_memory.{entry}.__main__
"""


@pytest.mark.parametrize("entry", ["api", "worker"])
@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("3", "3")])
def test_blas_has_one_thread_unless_set_otherwise(
    entry: str, given: str | None, expected: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    if given is not None:
        environment["OPENBLAS_NUM_THREADS"] = given
    ended = subprocess.run(
        [sys.executable, "-c", CHECK.format(entry=entry)],
        capture_output=True,
        check=True,
        text=True,
        env=environment,
    )
    assert ended.stdout.split() == [expected]
