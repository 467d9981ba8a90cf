"""`settings`: every setting and its current value."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from luma_memory.bootstrap.settings_reference import (
    as_environment_file,
    as_markdown,
    entries,
    plain_text,
    shown,
)
from luma_memory.cli.commands import examples
from luma_memory.cli.output import console, plain
from luma_memory.settings import Settings, load_settings

Form = Literal["table", "env", "markdown"]


@examples(
    "luma-memory settings",
    "luma-memory settings --format env > .env",
)
def settings(
    form: Annotated[
        Form,
        typer.Option("--format", help="Current values; an .env file; docs/settings.md."),
    ] = "table",
) -> None:
    """Show every setting, its current value and its meaning. Secrets are never shown."""
    match form:
        case "env":
            typer.echo(as_environment_file(), nl=False)
        case "markdown":
            typer.echo(as_markdown())
        case "table":
            console().print(_table(load_settings()))


def _table(settings: Settings) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("setting", "value", "meaning"):
        table.add_column(column, overflow="fold", no_wrap=column == "setting")
    section = ""
    for entry in entries():
        if entry.section != section and section:
            table.add_section()
        section = entry.section
        value = shown(entry, settings) or entry.unset
        is_default = value == (entry.default or entry.unset)
        table.add_row(
            plain(entry.variable),
            plain(value, style="dim" if is_default else "bold"),
            plain(plain_text(entry.meaning)),
        )
    return table
