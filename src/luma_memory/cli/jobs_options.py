"""Options shared by the `jobs` commands."""

from __future__ import annotations

from typing import Annotated

import typer

from luma_memory.domain.job import JOB_ID_MAX, ErrorClass, JobType

Project = Annotated[
    str | None,
    typer.Option("--project", metavar="PROJECT", help="Only this project; all by default."),
]
OfUser = Annotated[
    str | None,
    typer.Option("--user", metavar="USER", help="Your application's id of the end user."),
]
Type = Annotated[JobType | None, typer.Option("--type", help="Only jobs of this type.")]
Class = Annotated[
    ErrorClass | None,
    typer.Option("--class", help="Only jobs whose last attempt failed with this class."),
]
JobIdArgument = Annotated[int, typer.Argument(metavar="ID", min=1, max=JOB_ID_MAX)]
JobIdArguments = Annotated[list[int] | None, typer.Argument(metavar="ID", min=1, max=JOB_ID_MAX)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
