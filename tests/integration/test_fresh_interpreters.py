"""What only shows in a new interpreter: which modules an import loads, and in what order."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from luma_memory.pipeline.text.terms import term_index

# Ends the process at the first import of numpy, which comes long before everything is loaded.
AT_NUMPY = """
import importlib.abc, os, sys

class Guard(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print(os.environ.get("OPENBLAS_NUM_THREADS"), flush=True)
            os._exit(0)
        return None

sys.meta_path.insert(0, Guard())
import luma_memory.{entry}.__main__
"""


def output(code: str, **environment: str) -> str:
    """What a new interpreter prints that runs this code."""
    return subprocess.check_output(
        [sys.executable, "-c", code], text=True, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("entry", ["api", "worker"])
@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("3", "3")])
def test_blas_has_one_thread_unless_set_otherwise(
    entry: str, given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set before anything imports numpy: it is read then."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    environment = {} if given is None else {"OPENBLAS_NUM_THREADS": given}
    assert output(AT_NUMPY.format(entry=entry), **environment).split() == [expected]


def test_importing_the_client_imports_no_server_code() -> None:
    code = "import sys, json, luma_memory.client; print(json.dumps(list(sys.modules)))"
    loaded = json.loads(output(code))
    ours = {name.split(".")[1] for name in loaded if name.startswith("luma_memory.")}
    assert ours == {"client", "concurrency", "domain", "protocol"}
    others = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert {name for name in others if not name.startswith("_")} <= {
        *("luma_memory", "httpx2", "httpcore2", "h11", "anyio", "certifi", "idna"),
        *("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"),
    }


@pytest.mark.parametrize("command", ["jobs", "keys", "usage", "doctor", "backfill"])
def test_operator_commands_load_no_enrichment(command: str) -> None:
    """Its word lists and date formats take a third of the command's time."""
    code = f"import sys, luma_memory.cli.{command}; print(*sys.modules)"
    heavy = {"wordfreq", "dateparser", "langcodes", "onnxruntime", "fastapi"}
    assert heavy & set(output(code).split()) == set()


@pytest.mark.parametrize("process", ["api", "worker"])
def test_a_process_starts_without_word_frequencies(process: str) -> None:
    """Imported here, wordfreq reads the stack with its sources: a third of the start."""
    code = f"import sys, luma_memory.{process}.__main__; print(*sys.modules)"
    assert {"wordfreq", "langcodes"} & set(output(code).split()) == set()


def test_term_indices_do_not_depend_on_the_hash_seed() -> None:
    code = "from luma_memory.pipeline.text.terms import term_index; print(term_index('otter'))"
    assert int(output(code, PYTHONHASHSEED="7")) == term_index("otter")
