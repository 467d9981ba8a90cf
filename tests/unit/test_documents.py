"""What the documents say of the code is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tools.generate import generated

from luma_memory.bootstrap.settings_reference import SECTIONS, entries
from luma_memory.settings import Settings, Unset, variable_name, variable_names

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "text"), generated().items(), ids=lambda value: getattr(value, "name", "")
)
def test_what_is_made_of_the_code_is_up_to_date(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, "run: make generate"


def test_every_setting_is_described() -> None:
    described = entries()
    assert [entry.variable for entry in described] == variable_names()
    assert [entry.variable for entry in described if not entry.meaning] == []
    assert set(SECTIONS) <= set(Settings.model_fields)
    # Without a default there is something else in its place, and a reader wants to know what.
    notes = {
        name: field.metadata
        for name, field in Settings.model_fields.items()
        if field.default is None
    }
    assert [
        name for name, values in notes.items() if not any(isinstance(n, Unset) for n in values)
    ] == []


def test_the_example_file_holds_every_setting_with_its_default() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    given = dict(re.findall(r"^# ([A-Z_]+)=(.*)$", "\n".join(lines), re.MULTILINE))
    assert given.pop("POSTGRES_PASSWORD") == ""  # of deploy/compose.yaml, no setting
    assert list(given) == variable_names()
    assert [line for line in lines if line and not line.startswith("#")] == []
    values = {
        name: given[variable_name(name)]
        for name in Settings.model_fields
        if given[variable_name(name)]
    }
    assert Settings(**values) == Settings()


@pytest.mark.parametrize(
    "document",
    sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", text)
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert missing == []


# Of commands, processes and the start; no answer of the API has them.
NOT_RETURNED = {
    "extra_missing",
    *("address_unusable", "auth_required", "cache_unavailable", "database_setup"),
    *("backup_failed", "database_not_empty", "file_exists", "not_a_backup"),
    *("deadline_exceeded", "invalid_dataset", "key_not_found", "migration_locked"),
    *(
        "migration_refused",
        "no_database",
        "permissions_missing",
        "pgvector_missing",
        "process_ended",
    ),
    *("partitions_exist", "schema_exists"),  # of operators' commands
    "replica_setup",  # in the log: the primary serves the request
    # Of the command that splits a database.
    *("adoption_unfinished", "partition_elsewhere", "partitions_missing", "processes_not_ready"),
    "user_busy",
    # Of the command that moves one.
    *("copy_differs", "home_partition", "move_runs", "move_unfinished", "partition_busy"),
    *("pgvector_in_partition", "same_place", "versions_differ"),
    *("distributed", "no_citus", "not_distributed"),  # of partitions on Citus
    *("provider_answer_too_large", "provider_input_empty", "provider_redirected"),
    *("provider_refused", "schema_missing", "setup", "wrong_setting"),
    "webhook_signature_invalid",  # of the application that receives
}


def test_every_error_code_is_documented() -> None:
    package = ROOT / "src" / "luma_memory"
    codes: set[str] = set()
    for file in package.rglob("*.py"):
        if {"cli", "client", "testing", "embedded", "importers"} & set(
            file.relative_to(package).parts
        ):
            continue
        text = file.read_text(encoding="utf-8")
        codes |= set(re.findall(r'\bcode(?:: str)?\s*=\s*"([a-z_]+)"', text))
        codes |= set(re.findall(r'PydanticCustomError\(\s*"([a-z_]+)"', text))
    assert len(codes) > 60
    documented = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "api.md").read_text("utf-8")))
    assert sorted(codes - documented - NOT_RETURNED) == []


def test_every_error_code_of_the_importers_is_documented() -> None:
    codes: set[str] = set()
    for file in (ROOT / "src" / "luma_memory" / "importers").glob("*.py"):
        codes |= set(re.findall(r'\bcode="([a-z_]+)"', file.read_text(encoding="utf-8")))
    assert len(codes) > 4
    documented = set(
        re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "importing.md").read_text("utf-8"))
    )
    assert sorted(codes - documented) == []


def test_every_error_code_of_the_client_is_documented() -> None:
    codes: set[str] = set()
    for file in (ROOT / "src" / "luma_memory" / "client").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        codes |= set(re.findall(r'(?:\bcode=|^NEVER_SENT = )"([a-z_]+)"', text, re.MULTILINE))
    assert len(codes) > 10
    documented = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "sdk.md").read_text("utf-8")))
    assert sorted(codes - documented) == []


def test_the_folders_for_a_change_exist() -> None:
    """CONTRIBUTING names where to make a change, below the package or in the repository."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("## Where would I change")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([a-z].*?) \| (.*?) \|$", table, re.MULTILINE)
    assert len(rows) >= 10
    for change, folders in rows:
        base = ROOT if "of the repository" in folders else ROOT / "src" / "luma_memory"
        named = re.findall(r"`([\w/]+)`", folders)
        assert named, change
        assert all((base / folder).is_dir() for folder in named), change


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
