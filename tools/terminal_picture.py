"""Record a run of `make demo` as docs/images/demo.svg.

    .venv/bin/python -m tools.terminal_picture

Runs the real program in a pseudo-terminal and draws what it printed.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "demo.svg"
COLUMNS = 116
# Rich's template loads a font from another host; the reader's own monospaced font will do.
_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-LN-Zhl]|\x1b\][^\x07]*\x07")


def recorded(command: list[str]) -> str:
    """Everything a command writes to its terminal. Raises CalledProcessError if it fails."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color", "LINES": "60"}
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    written = bytearray()
    while True:
        try:
            piece = os.read(controller, 65_536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        written += piece
    if status := process.wait():
        raise subprocess.CalledProcessError(status, command, bytes(written))
    return written.decode(errors="replace")


def final_lines(text: str) -> list[str]:
    """The lines as they remain: a line that was redrawn counts with its last content."""
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        # Cursor movements up belong to progress bars, which end up empty.
        up = len(re.findall(r"\x1b\[1A", line))
        del lines[len(lines) - up :]
        lines.append(_CONTROL.sub("", line.rpartition("\r")[2]))
    return lines


def drawing(text: str, *, title: str) -> str:
    console = Console(width=COLUMNS, record=True, file=StringIO(), force_terminal=True)
    console.print(Text.from_ansi("\n".join(final_lines(text)).strip("\n")))
    svg = console.export_svg(title=title, theme=MONOKAI, unique_id="terminal")
    return _FONT_FACE.sub("", svg).replace("Fira Code", "ui-monospace, 'DejaVu Sans Mono'")


def main() -> None:
    program = Path(sys.executable).parent / "luma-memory"
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(drawing(recorded([str(program), "demo"]), title="make demo"), "utf-8")


if __name__ == "__main__":
    main()
