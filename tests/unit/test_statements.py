"""Every statement on user data names the scope, or says here why it need not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "luma_memory"
STATEMENTS = sorted((PACKAGE / "store" / "sql").glob("*.sql")) + sorted(
    (PACKAGE / "queue" / "sql").glob("*.sql")
)
# Tables whose rows are somebody's.
USER_DATA = re.compile(
    r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(memory_(?:users|blocks|passages|block_revisions|relations"
    r"|summaries|usage|rate_limits|idempotency|erasures|jobs|scope_models|next_passages)\b)",
    re.IGNORECASE,
)
# For everybody's rows, and for whom: the operator's own, or work that gives nothing away.
FOR_ALL = {
    "claim": "workers take jobs of all users",
    "held": "a worker's own jobs, by its id",
    "job_span": "ids only: from where to where an erasure goes through the table",
    "prune_answers": "old answers of all users are deleted",
    "reembed_progress": "numbers of all vectors",
    "register_model": "whether anybody's vectors are of a model at all",
    "schedule_weekly_summaries": "one job for each user who is due",
    "enqueue_waiting": "operators may leave the scope out; clients never do",
    "count_waiting": "operators may leave the scope out; clients never do",
}
# What stands in for the scope: a list of scopes, or conditions that JobFilter's project makes.
_SCOPED = re.compile(
    r"project_id\b.*\b(user_id|user_digest)\b|user_id\b.*\bproject_id\b", re.DOTALL
)


@pytest.mark.parametrize("file", STATEMENTS, ids=lambda file: file.stem)
def test_a_statement_on_user_data_names_the_scope(file: Path) -> None:
    text = re.sub(r"--[^\n]*", "", file.read_text(encoding="utf-8"))
    if not USER_DATA.search(text) or file.stem in FOR_ALL:
        return
    assert _SCOPED.search(text) or "/*conditions*/" in text, (
        f"{file.name} reads or writes user data without project_id and user_id; if that is meant,"
        " say why in FOR_ALL"
    )


def test_the_exceptions_are_still_there() -> None:
    assert set(FOR_ALL) <= {file.stem for file in STATEMENTS}


def test_statements_stand_in_their_files() -> None:
    """A statement in the code would be one that the test above does not see."""
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
