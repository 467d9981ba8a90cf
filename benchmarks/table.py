"""The report as people read it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from benchmarks.figures import Line

_STYLES = {"ok": "green", "miss": "bold red", "": ""}


def table(lines: Sequence[Line]) -> Table:
    """One row a line, in order."""
    whole = Table(title="Luma Memory: value, limit in the same run, ratio", title_justify="left")
    for header in ("what", "value", "limit", "ratio", "target", ""):
        numeric = header in ("value", "ratio")
        whole.add_column(header, justify="right" if numeric else "left", no_wrap=numeric)
    for line in lines:
        whole.add_row(
            f"{line.what}" + (f"\n  [dim]{line.note}[/dim]" if line.note else ""),
            f"{_figure(line.value)} {line.unit}",
            "" if line.limit is None else f"{_figure(line.limit)} ({line.limit_name})",
            "" if line.ratio is None else f"{line.ratio:.2f}",
            "" if line.target is None else str(line.target),
            f"[{style}]{line.verdict}[/]" if (style := _STYLES[line.verdict]) else "",
        )
    return whole


def _figure(value: float) -> str:
    """Three significant digits, no exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
