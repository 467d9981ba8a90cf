"""The `luma-memory` command. Errors become one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, TextIO

import typer
from typer.main import get_command

from luma_memory import __version__
from luma_memory.cli.commands import LazyGroup
from luma_memory.cli.output import print_error
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.extras import missing_extra
from luma_memory.telemetry.logs import configure_logs, trace_without_texts

PROGRAM = "luma-memory"
_EPILOG = """\
[dim]First steps[/dim]
luma-memory demo        try the whole service; removes its data at the end
luma-memory up          run the service on http://127.0.0.1:8080
luma-memory doctor      diagnose a problem

[dim]Exit codes[/dim]
0     success; also `up`, `serve` and `worker` after Ctrl-C
1     failed or rejected; the reason is on standard error
2     usage error
130   interrupted by Ctrl-C
143   stopped by SIGTERM

Settings are read from the environment: DATABASE_URL, OPENAI_API_KEY, OPENAI_BASE_URL, MEMORY_*.
"""

app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    epilog=_EPILOG,
)


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"luma-memory {__version__}")
        raise typer.Exit


@app.callback()
def _luma_memory(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Luma Memory: a memory service for AI applications."""


def main(arguments: list[str] | None = None) -> None:
    """Run a command line and exit with its exit code."""
    _tolerate(sys.stdout, sys.stderr)
    configure_logs(level="warning", json_lines=False)
    command: Any = get_command(app)
    try:
        command.main(args=arguments, prog_name=PROGRAM)
    except LumaMemoryError as error:
        print_error(str(error))
    except ModuleNotFoundError as error:
        print_error(str(missing_extra(error)))
    except OSError as error:
        print_error(
            f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        )
    except Exception as error:  # a bug: no stack trace by default
        print_error(f"Unexpected {type(error).__name__}; MEMORY_LOG_LEVEL=debug shows its trace")
        if os.environ.get("MEMORY_LOG_LEVEL", "").lower() == "debug":
            print_error(trace_without_texts((type(error), error, error.__traceback__)))
    raise SystemExit(1)


def _tolerate(*streams: TextIO) -> None:
    # A character that the terminal cannot encode becomes a question mark instead of an error.
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
