"""Statements are in .sql files next to the code that runs them, so they can be read as SQL.

A file holds one repository's statements, each below a line `-- name: …`. A statement may include
another block of its file by `/*block_name*/`: so a list of columns is written once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.resources import files
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


class SqlFile(Mapping[str, str]):
    """The named statements of the .sql file beside a module; read at first use.

    Raises FileNotFoundError for a module without such a file, KeyError for an unknown name.
    """

    def __init__(self, module: str) -> None:
        self._package, _, self._stem = module.rpartition(".")

    def __getitem__(self, name: str) -> str:
        return self._statements[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)

    @cached_property
    def _statements(self) -> Mapping[str, str]:
        text = (files(self._package) / f"{self._stem}.sql").read_text(encoding="utf-8")
        _, *parts = _NAME.split(text)
        blocks = dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))
        if len(blocks) < len(parts) // 2:
            raise ValueError(f"{self._stem}.sql names a statement twice")
        return {name: _included(block, blocks) for name, block in blocks.items()}


def _included(text: str, blocks: Mapping[str, str]) -> str:
    return re.sub(r"/\*(\w+)\*/", lambda mark: blocks.get(mark[1], mark[0]), text)
