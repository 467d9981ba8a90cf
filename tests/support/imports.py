"""Which modules a source file imports, and which modules a distribution installs.

Without a syntax tree, which takes seconds for all files: the code's style has one import a line.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

_IMPORT = re.compile(r"^\s*(?:import|from(?= [\w.]+ import )) (\w+)", re.MULTILINE)


def imported_packages(path: Path) -> set[str]:
    """The first part of every absolute import, those of functions included."""
    return set(_IMPORT.findall(path.read_text(encoding="utf-8")))


@cache
def installed_packages(distribution_name: str) -> frozenset[str]:
    """The top-level modules of an installed distribution."""
    record = distribution(distribution_name).read_text("RECORD") or ""
    return frozenset(re.split(r"[/.,]", line, maxsplit=1)[0] for line in record.splitlines())
