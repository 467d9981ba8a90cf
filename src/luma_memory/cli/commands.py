"""The list of commands, and a group that imports a command only when it is called.

Importing the server takes seconds, and `--help`, `--version` and `search` do not need it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import cleandoc
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

_PACKAGE = "luma_memory.cli"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command is defined: a function whose docstring is the help text, or a typer app."""

    module: str
    function: str
    summary: str
    panel: str


_RUN, _USE, _OPERATE = "Run the service", "Use a running service", "Operate the service"

COMMANDS: Mapping[str, Entry] = {
    "up": Entry("up", "up", "Run database, API and worker in one terminal.", _RUN),
    "serve": Entry("servers", "serve", "Run the API only.", _RUN),
    "worker": Entry("servers", "worker", "Run a worker only.", _RUN),
    "demo": Entry("demo", "demo", "Ingest a sample conversation and query it.", _RUN),
    "connect": Entry("connect", "connect", "Add the server to an agent host.", _USE),
    "hook": Entry("hook", "hook", "Handle an event of a coding agent.", _USE),
    "mcp": Entry("mcp", "mcp", "Serve an agent host over standard input and output.", _RUN),
    "ingest": Entry("ingest", "ingest", "Store blocks from a JSON Lines file.", _USE),
    "import": Entry(
        "importing", "import_files", "Store exports of ChatGPT, Claude, Slack, WhatsApp …", _USE
    ),
    "export": Entry("exporting", "export", "Write everything of a user to a file.", _USE),
    "search": Entry("search", "search", "Search a user's blocks.", _USE),
    "context": Entry(
        "context", "context", "Get the context for a question, as text for a prompt.", _USE
    ),
    "summarize": Entry("summaries", "summarize", "Summarize a user's week.", _USE),
    "relations": Entry(
        "relations", "app", "Draw a user's relations; detect those of older blocks.", _USE
    ),
    "eval": Entry(
        "evaluation.evaluate", "evaluate", "Measure retrieval quality on a data set.", _USE
    ),
    "top": Entry("top", "top", "Monitor queue, workers, cache and latencies.", _OPERATE),
    "keys": Entry("keys", "keys", "Create, list and revoke API keys.", _OPERATE),
    "jobs": Entry("jobs", "jobs", "Inspect the queue; retry, cancel and delete jobs.", _OPERATE),
    "webhooks": Entry(
        "webhooks", "webhooks", "Create, test and inspect webhooks; replay deliveries.", _OPERATE
    ),
    "usage": Entry(
        "usage", "usage", "Show calls, tokens and cost of the model providers.", _OPERATE
    ),
    "backfill": Entry(
        "backfill", "backfill", "Enrich and embed blocks that lack either.", _OPERATE
    ),
    "reembed": Entry("reembed", "reembed", "Switch embedding models online.", _OPERATE),
    "verify-erasure": Entry(
        "erasures", "verify_erasure", "Verify a receipt of a user's erasure.", _OPERATE
    ),
    "backup": Entry("backups", "backup", "Back up all data into one file.", _OPERATE),
    "restore": Entry("backups", "restore", "Restore a backup into an empty database.", _OPERATE),
    "settings": Entry(
        "show_settings", "settings", "Show every setting and its current value.", _OPERATE
    ),
    "rollout": Entry("rollout", "app", "Check the criteria of a rollout phase.", _OPERATE),
    "migrate": Entry(
        "migrate", "migrate", "Migrate the database to this version's schema.", _OPERATE
    ),
    "partitions": Entry(
        "partitions", "partitions", "Prepare and list partitions of the database.", _OPERATE
    ),
    "doctor": Entry(
        "doctor", "doctor", "Check dependencies and settings, and suggest fixes.", _OPERATE
    ),
}


def examples(*lines: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Show these lines below a command's options."""

    def annotate(function: Callable[..., Any]) -> Callable[..., Any]:
        function.__dict__["examples"] = lines
        return function

    return annotate


def load_command(name: str) -> TyperCommand | TyperGroup:
    """The command or group, with its module imported."""
    entry = COMMANDS[name]
    target = getattr(import_module(f"{_PACKAGE}.{entry.module}"), entry.function)
    app = target if isinstance(target, typer.Typer) else _app()
    if app is not target:
        _add(app, name, target)
    command = get_command(app)
    command.name = name
    assert isinstance(command, TyperCommand | TyperGroup)
    return command


def command_group(
    summary: str, functions: Sequence[Callable[..., Any]], *examples: str
) -> typer.Typer:
    """A group of commands, each named after its function without the prefix up to the first `_`."""
    app = _app(help=_flowing(summary), epilog=_epilog(examples), no_args_is_help=True)
    for function in functions:
        _add(app, function.__name__.partition("_")[2], function)
    # Without a callback, typer turns a group of one command into that command.
    app.callback()(lambda: None)
    return app


def _app(**options: Any) -> typer.Typer:
    return typer.Typer(add_completion=False, rich_markup_mode="rich", **options)


def _add(app: typer.Typer, name: str, function: Callable[..., Any]) -> None:
    epilog = _epilog(getattr(function, "examples", ()))
    app.command(name, help=_flowing(function.__doc__), epilog=epilog)(function)


class LazyGroup(TyperGroup):
    """Lists commands from COMMANDS and imports only the one that is called."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = {
            name: TyperCommand(name=name, help=entry.summary, rich_help_panel=entry.panel)
            for name, entry in COMMANDS.items()
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else listed, rest


def _flowing(docstring: str | None) -> str:
    """Paragraphs without the source's line breaks; the terminal wraps them."""
    paragraphs = cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _epilog(lines: tuple[str, ...]) -> str | None:
    shown = "\n".join(line.replace("[", r"\[") for line in lines)
    return f"[dim]Examples[/dim]\n{shown}" if lines else None
