"""Every statement on user data names the scope, or gives here the reason why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from luma_memory.postgres.sql_files import SqlFile

PACKAGE = Path(__file__).parents[2] / "src" / "luma_memory"
FILES = sorted(file for package in ("store", "queue") for file in (PACKAGE / package).glob("*.sql"))
STATEMENTS = {
    name: statement
    for file in FILES
    for name, statement in SqlFile(f"luma_memory.{file.parent.name}.{file.stem}").items()
}
# Tables whose rows belong to a user.
USER_DATA = re.compile(
    r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(memory_(?:users|blocks|passages|block_revisions|relations"
    r"|summaries|usage|rate_limits|idempotency|erasures|jobs|scope_models|next_passages)\b)",
    re.IGNORECASE,
)
# Statements on the rows of all users, each with the reason: operators' own work, or work whose
# result reveals nothing about a user.
FOR_ALL = {
    "claim": "workers claim jobs of all users",
    "list_claimed": "a worker's own jobs, by its id",
    "has_users": "returns whether there is any user only",
    "job_span": "returns the range of job ids only",
    "next_job": "returns a job's id only",
    "prune_responses": "expired responses of all users are deleted",
    "reembed_progress": "counts of all vectors",
    "register_model": "whether any vector belongs to a model",
    "schedule_weekly_summaries": "one job for each user whose summary is due",
    "enqueue_waiting": "operators may leave the scope out; clients never do",
    "count_waiting": "operators may leave the scope out; clients never do",
}
# What replaces the scope: a list of scopes, or conditions that JobFilter's project makes.
_SCOPED = re.compile(
    r"project_id\b.*\b(user_id|user_digest)\b|user_id\b.*\bproject_id\b", re.DOTALL
)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_on_user_data_names_the_scope(name: str) -> None:
    text = re.sub(r"--[^\n]*", "", STATEMENTS[name])
    if not USER_DATA.search(text) or name in FOR_ALL:
        return
    assert _SCOPED.search(text) or "/*conditions*/" in text, (
        f"{name} reads or writes user data without project_id and user_id; if that is intended,"
        " give the reason in FOR_ALL"
    )


def test_the_exceptions_still_exist() -> None:
    assert set(FOR_ALL) <= set(STATEMENTS)


def test_names_of_statements_are_unique() -> None:
    """FOR_ALL excepts by name: a second statement of that name would be excepted as well."""
    named = [line for file in FILES for line in file.read_text("utf-8").splitlines()]
    assert len(STATEMENTS) == sum(line.startswith("-- name: ") for line in named)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_has_a_comment(name: str) -> None:
    assert STATEMENTS[name].startswith("-- ")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_statement_is_used_by_its_module(file: Path) -> None:
    code = file.with_suffix(".py").read_text("utf-8")
    names = SqlFile(f"luma_memory.{file.parent.name}.{file.stem}")
    included = re.findall(r"/\*(\w+)\*/", file.read_text("utf-8"))
    assert [name for name in names if f'"{name}"' not in code and name not in included] == []


def test_an_unknown_statement_raises() -> None:
    with pytest.raises(KeyError):
        SqlFile("luma_memory.store.blocks")["no_such_statement"]


def test_statements_live_in_sql_files() -> None:
    """The tests above would not see a statement in the code."""
    in_code = re.compile(
        r'"\s*(?:SELECT|INSERT INTO|UPDATE|DELETE FROM)\s[^"]*\bmemory_[a-z_]+', re.IGNORECASE
    )
    found = [
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        for match in in_code.finditer(file.read_text(encoding="utf-8"))
        if USER_DATA.search(match[0])
    ]
    assert found == []


def test_job_filters_always_say_a_project() -> None:
    """`/*conditions*/` become those of a JobFilter, whose project has no default."""
    source = (PACKAGE / "domain" / "job.py").read_text(encoding="utf-8")
    assert re.search(r"class JobFilter:.*?\n    project_id: str \| None  #", source, re.DOTALL)
    routes = (PACKAGE / "api").rglob("*.py")
    for file in routes:
        for call in re.findall(r"JobFilter\((.*?)\n    \)", file.read_text("utf-8"), re.DOTALL):
            assert "project_id=caller.project_id" in call, file.name
