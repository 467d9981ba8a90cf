"""What the documentation's pages contain."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path


def requests(page: Path) -> Iterator[list[str]]:
    """The arguments of every curl of a page."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield shlex.split(block.replace("\\\n", " "))
    for line in re.findall(r"^\$ (curl .*)$", text, re.MULTILINE):
        yield shlex.split(line, comments=True)
