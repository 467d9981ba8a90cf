"""Files with users' data, readable by their owner only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

PRIVATE_MODE = 0o600


def write_private_text(path: Path, text: str) -> None:
    """Write a UTF-8 file with mode 0600. An existing regular file gets that mode, too."""
    with open(path, "w", encoding="utf-8", opener=open_private) as file:
        file.write(text)


def open_private(path: str, flags: int) -> int:
    """An opener for `open`: a new file has mode 0600, and an existing one gets it before it is
    written."""
    descriptor = os.open(path, flags, PRIVATE_MODE)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):  # not /dev/stdout
        os.fchmod(descriptor, PRIVATE_MODE)
    return descriptor
