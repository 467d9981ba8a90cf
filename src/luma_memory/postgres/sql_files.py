"""Statements live in .sql files beside the code that runs them, so they can be read and planned."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def load_sql(package: str, name: str) -> str:
    """The text of `name`.sql in the package's folder `sql`. Raises FileNotFoundError."""
    return (files(package) / "sql" / f"{name}.sql").read_text(encoding="utf-8")
