"""Options that the commands of `jobs` share."""

from __future__ import annotations

from typing import Annotated

import typer

from luma_memory.domain.job import JOB_ID_MAX, ErrorClass, JobType

Project = Annotated[
    str | None,
    typer.Option("--project", metavar="PROJECT", help="One project; all of them by default."),
]
OfUser = Annotated[
    str | None, typer.Option("--user", metavar="USER", help="Your own id of the end user.")
]
Type = Annotated[JobType | None, typer.Option("--type", help="Jobs that do this.")]
Class = Annotated[
    ErrorClass | None, typer.Option("--class", help="Jobs whose last attempt failed like this.")
]
JobIdArgument = Annotated[int, typer.Argument(metavar="ID", min=1, max=JOB_ID_MAX)]
JobIdArguments = Annotated[list[int] | None, typer.Argument(metavar="ID", min=1, max=JOB_ID_MAX)]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
