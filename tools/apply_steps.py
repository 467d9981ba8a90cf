"""Apply a guide's steps to a tree: `python -m tools.apply_steps GUIDE.md DIRECTORY`.

A step is a line that ends in a colon, followed by a fenced block:

    In `path`, after `line`:     insert the block below that line, which occurs exactly once
    Create `path`:               the block is the new file
    Run:                         run each line of the block, `python` being this interpreter
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_STEP = re.compile(
    r"^(?P<text>In `(?P<target>[^`\n]+)`, after `(?P<line>[^`\n]+)`|Create `(?P<new>[^`\n]+)`|Run):"
    r"\n\n"
    r"```\w+\n(?P<block>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class StepError(Exception):
    """A step that does not fit the tree, or a command that failed; the message has its output."""


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction of a guide."""

    text: str
    block: str
    target: str | None = None  # a file to insert into
    line: str | None = None
    new: str | None = None  # a file to create

    def apply(self, root: Path) -> None:
        """Raises StepError."""
        if self.target is not None and self.line is not None:
            self._insert(root / self.target, self.line)
        elif self.new is not None:
            path = root / self.new
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.block, encoding="utf-8")
        else:
            for command in self.block.splitlines():
                _run(command.split(), root)

    def _insert(self, path: Path, line: str) -> None:
        text = path.read_text(encoding="utf-8")
        if text.count(f"\n{line}\n") != 1:
            raise StepError(f"{path.name} has not one line {line!r}")
        path.write_text(text.replace(f"\n{line}\n", f"\n{line}\n{self.block}"), encoding="utf-8")


def steps_of(guide: str) -> Iterator[Step]:
    """The steps of a guide's text, in order."""
    for match in _STEP.finditer(guide):
        yield Step(**match.groupdict())


def _run(command: list[str], root: Path) -> None:
    if command[0] == "python":
        command = [sys.executable, *command[1:]]
    # An installed package would hide the copy.
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise StepError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def main() -> None:
    guide, root = Path(sys.argv[1]), Path(sys.argv[2])
    for step in steps_of(guide.read_text(encoding="utf-8")):
        print(step.text)
        step.apply(root)


if __name__ == "__main__":
    main()
