"""Check that no source file and no function grows beyond its limit.

Usage: python tools/sizes.py [FOLDER]

Counts lines: ruff's limit on statements (PLR0915) misses long literals and docstrings. Prints the
lines of Python below the folder (default: src).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 80


def oversized(path: str, source: str) -> Iterator[str]:
    """One message per limit that the source exceeds. A function's decorators do not count."""
    if (count := len(source.splitlines())) > FILE_LINES_MAX:
        yield f"{path}: {count} lines, at most {FILE_LINES_MAX}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = (node.end_lineno or node.lineno) - node.lineno + 1
            if count > FUNCTION_LINES_MAX:
                yield (
                    f"{path}:{node.lineno}: function {node.name} has {count} lines,"
                    f" at most {FUNCTION_LINES_MAX}"
                )


def main(arguments: list[str]) -> int:
    folder = ROOT / (arguments[0] if arguments else "src")
    sources = {file: file.read_text("utf-8") for file in sorted(folder.rglob("*.py"))}
    found = [
        message
        for file, source in sources.items()
        for message in oversized(str(file.relative_to(ROOT)), source)
    ]
    for message in found:
        print(message)
    print(f"{sum(len(source.splitlines()) for source in sources.values())} lines of Python")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
