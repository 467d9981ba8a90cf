"""The list of commands, and a group that loads one only when it is called.

What a stack is made of takes seconds to import; `--help`, `--version` and `search` need none of it.
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
    """Where a command lives: the function of its name in the module, its docstring its help.

    A group of commands is a typer app in place of the function.
    """

    module: str
    function: str
    summary: str
    panel: str


_RUN, _USE, _CARE = "Run the service", "Use a running service", "Look after it"

COMMANDS: Mapping[str, Entry] = {
    "up": Entry("up", "up", "Database, API and worker in one terminal, until Ctrl-C.", _RUN),
    "serve": Entry("servers", "serve", "The API alone.", _RUN),
    "worker": Entry("servers", "worker", "A worker alone.", _RUN),
    "demo": Entry("demo", "demo", "See it work: ingest a conversation, ask questions.", _RUN),
    "ingest": Entry("ingest", "ingest", "Store blocks from JSON lines.", _USE),
    "search": Entry("search", "search", "Ask a user's blocks.", _USE),
    "context": Entry("context", "context", "The context of a question, for a prompt.", _USE),
    "summarize": Entry("summaries", "summarize", "What a user's week came to.", _USE),
    "relations": Entry(
        "relations", "app", "A user's relations as a picture; those of older blocks.", _USE
    ),
    "eval": Entry(
        "evaluation.evaluate", "evaluate", "Measure retrieval quality on a data set.", _USE
    ),
    "top": Entry("top", "top", "Watch queue, workers, cache and latencies live.", _CARE),
    "keys": Entry("keys", "keys", "Make, list and revoke API keys.", _CARE),
    "jobs": Entry("jobs", "jobs", "Look at the queue, run jobs again, cancel, clear.", _CARE),
    "usage": Entry("usage", "usage", "What the model providers took and cost.", _CARE),
    "backfill": Entry("backfill", "backfill", "Make what providers or switches left out.", _CARE),
    "reembed": Entry("reembed", "reembed", "Change the embedding model under way.", _CARE),
    "verify-erasure": Entry(
        "erasures", "verify_erasure", "Look whether a user's erasure holds.", _CARE
    ),
    "backup": Entry("backups", "backup", "Everything that is kept, into one file.", _CARE),
    "restore": Entry("backups", "restore", "A backup, into an empty database.", _CARE),
    "settings": Entry("show_settings", "settings", "Every setting, and what it is here.", _CARE),
    "rollout": Entry("rollout", "app", "Measure a phase of the rollout, pass or fail.", _CARE),
    "migrate": Entry("migrate", "migrate", "Bring the database to this version's schema.", _CARE),
    "doctor": Entry("doctor", "doctor", "Check every dependency and setting, say the fix.", _CARE),
}


def examples(*lines: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Show these lines under a command's options."""

    def note(function: Callable[..., Any]) -> Callable[..., Any]:
        function.__dict__["examples"] = lines
        return function

    return note


def load_command(name: str) -> TyperCommand | TyperGroup:
    """The command or group itself, its module imported."""
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
    """A group of commands, each named as its function without the prefix up to the first `_`."""
    app = _app(help=_flowing(summary), epilog=_epilog(examples), no_args_is_help=True)
    for function in functions:
        _add(app, function.__name__.partition("_")[2], function)
    # With a callback, typer keeps a group also where it has one command only.
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
    """Paragraphs without the line ends of the source, for the terminal to break."""
    paragraphs = cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _epilog(lines: tuple[str, ...]) -> str | None:
    shown = "\n".join(line.replace("[", r"\[") for line in lines)
    return f"[dim]Examples[/dim]\n{shown}" if lines else None
