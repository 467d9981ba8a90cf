"""Output of the commands: consoles, text made safe for a terminal, progress bars, error lines.

Results go to standard output, everything else to standard error. Colors and moving bars appear on
a terminal only.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

# Wide enough for the tables when the output has no width of its own.
PIPED_COLUMNS = 160
# Control characters and text direction overrides: stored text must not control a terminal.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_REPORT_SECONDS = 10.0
_PACE_SECONDS_MIN = 0.5


def console(*, errors: bool = False) -> Console:
    """A console on the current standard output or standard error."""
    stream = sys.stderr if errors else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PIPED_COLUMNS, highlight=False)


def printable(text: str) -> str:
    """The text without characters that control a terminal."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def plain(text: str, *, style: str = "") -> Text:
    """Stored text for a table or a line: no markup, no control characters."""
    return Text(printable(text), style=style)


def shortened(text: str, characters_max: int) -> str:
    """The text on one line of at most `characters_max` characters."""
    line = " ".join(text.split())
    return line if len(line) <= characters_max else line[: characters_max - 1].rstrip() + "…"


def print_error(message: str) -> None:
    """Print one sentence on standard error."""
    line = Text.assemble(("luma-memory: ", "bold red"), printable(message))
    console(errors=True).print(line, soft_wrap=True)


def print_note(message: str) -> None:
    """Print something other than a result, on standard error."""
    console(errors=True).print(plain(message), soft_wrap=True)


class Bar:
    """Progress toward a total; `total` is None while it is unknown. Bytes are shown as MB."""

    def __init__(self, title: str, total: int | None) -> None:
        self.title, self.total, self.done = title, total, 0
        self._is_bytes = title.startswith("bytes ")
        self._started = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self.show(self.done + count)

    def show(self, done: int) -> None:
        """Set the progress; it never moves back."""
        self.done = max(self.done, done)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def amount(self) -> str:
        if self.total is None:
            return self._shown(self.done)
        return f"{self._number(self.done)} of {self._shown(self.total)}"

    @property
    def pace(self) -> str:
        """The rate, and how long the rest takes at this rate; nothing before there is one."""
        seconds = self.seconds
        if not self.done or seconds < _PACE_SECONDS_MIN:
            return ""
        rate = self.done / seconds
        left = (self.total or 0) - self.done
        rest = f", {timedelta(seconds=round(left / rate))} left" if left > 0 else ""
        return f"{self._shown(rate)}/s{rest}"

    def _shown(self, number: float) -> str:
        return self._number(number) + (" MB" if self._is_bytes else "")

    def _number(self, number: float) -> str:
        return f"{number / 1e6:,.1f}" if self._is_bytes else f"{number:,.0f}"

    def end(self) -> None:
        """Leave the last state on the screen."""


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Bar]:
    """A moving bar on a terminal; elsewhere a line every 10 seconds and one at the end."""
    out = console(errors=True)
    bar = _MovingBar(title, total, out) if out.is_terminal else _LineBar(title, total, out)
    try:
        yield bar
    finally:
        bar.end()


class _MovingBar(Bar):
    def __init__(self, title: str, total: int | None, out: Console) -> None:
        super().__init__(title, total)
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[pace]}"),
            console=out,
        )
        self._task = self._progress.add_task(title, total=total, amount=self.amount, pace="")
        self._progress.start()

    def show(self, done: int) -> None:
        super().show(done)
        self._progress.update(self._task, completed=self.done, amount=self.amount, pace=self.pace)

    def end(self) -> None:
        if self.total is None:
            self._progress.update(self._task, total=self.done)
        self._progress.stop()


class _LineBar(Bar):
    def __init__(self, title: str, total: int | None, out: Console) -> None:
        super().__init__(title, total)
        self._out = out
        self._reported = time.monotonic()

    def show(self, done: int) -> None:
        super().show(done)
        if time.monotonic() - self._reported >= _REPORT_SECONDS:
            self.end()

    def end(self) -> None:
        self._reported = time.monotonic()
        parts = (f"{self.title}: {self.amount}", f"{self.seconds:.1f} s", self.pace)
        self._out.print(", ".join(part for part in parts if part), soft_wrap=True)
