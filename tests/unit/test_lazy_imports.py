"""Inner imports are listed by name: heavy or optional libraries, never a way around a cycle."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import luma_memory

ROOT = Path(luma_memory.__file__).parent
LISTED = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text())["tool"]["luma-memory"][
    "lazy-imports"
]


BY_NAME = {"import_module", "__import__"}
# Only files with such a line are parsed: all of them would take seconds.
INNER = re.compile(rf"^[ \t]+(?:import|from) |{'|'.join(BY_NAME)}", re.MULTILINE)


def inner_imports(source: str) -> Iterator[str]:
    """Modules that functions import, by statement or by name."""
    if not INNER.search(source):
        return
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.ImportFrom):
                yield node.module or "."
            elif isinstance(node, ast.Import):
                yield from (name.name for name in node.names)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                if name in BY_NAME:
                    yield "*"


def test_every_lazy_import_is_listed_and_every_listed_one_exists() -> None:
    found = {
        f"{'.'.join(path.relative_to(ROOT.parent).with_suffix('').parts)} -> {imported}"
        for path in ROOT.rglob("*.py")
        for imported in inner_imports(path.read_text())
    }
    assert found == set(LISTED)


def test_statements_and_calls_are_found() -> None:
    source = "def f():\n import a.b\n from c import d\n importlib.import_module('e')\n"
    assert list(inner_imports(source)) == ["a.b", "c", "*"]
