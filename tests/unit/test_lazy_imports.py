"""Inner imports are listed by name: heavy or optional libraries, never a way around a cycle."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import luma_memory

ROOT = Path(luma_memory.__file__).parent
LISTED = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text())["tool"]["luma-memory"][
    "lazy-imports"
]


def inner_imports(tree: ast.AST) -> Iterator[str]:
    """Modules that functions import, by statement or by name."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.ImportFrom):
                yield node.module or "."
            elif isinstance(node, ast.Import):
                yield from (name.name for name in node.names)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                if name in {"import_module", "__import__"}:
                    yield "*"


def test_every_lazy_import_is_listed_and_every_listed_one_exists() -> None:
    found = {
        f"{'.'.join(path.relative_to(ROOT.parent).with_suffix('').parts)} -> {imported}"
        for path in ROOT.rglob("*.py")
        for imported in inner_imports(ast.parse(path.read_text()))
    }
    assert found == set(LISTED)


def test_statements_and_calls_are_found() -> None:
    source = "def f():\n import a.b\n from c import d\n importlib.import_module('e')\n"
    assert list(inner_imports(ast.parse(source))) == ["a.b", "c", "*"]
