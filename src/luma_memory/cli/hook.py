"""`hook`: what a coding agent's plugin calls at the events of a session."""

from __future__ import annotations

from typing import Annotated

import typer

from luma_memory.cli.commands import examples
from luma_memory.cli.hook_events import run_hook


@examples("luma-memory hook UserPromptSubmit < event.json")
def hook(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The host's name of the event.")],
) -> None:
    """Handle an event of a coding agent: JSON on standard input, JSON on standard output.

    SessionStart and UserPromptSubmit return a context. Stop and SessionEnd store the session's
    last turns, without texts that look like secrets. Takes at most a second and exits with 0; a
    failure is one line of hook.log in the data directory.
    """
    run_hook(event)
