"""What the documents say of the code is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from luma_memory.postgres.migrator import migration_script
from luma_memory.settings import Settings, variable_name, variable_names

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `([A-Z_]+)` \| ([^|]+) \|", re.MULTILINE)


def documented() -> dict[str, str]:
    """Variable to documented default."""
    return dict(ROW.findall((ROOT / "docs" / "settings.md").read_text(encoding="utf-8")))


def test_every_setting_is_documented_and_nothing_else() -> None:
    assert sorted(documented()) == sorted(variable_names())


@pytest.mark.parametrize("field", Settings.model_fields)
def test_the_documented_default_is_the_real_one(field: str) -> None:
    default = Settings.model_fields[field].default
    if default is not None:  # otherwise the document says what happens without
        stated = documented()[variable_name(field)].strip()
        assert stated == (str(default).lower() if isinstance(default, bool) else str(default))


def test_the_file_for_a_sql_editor_is_the_migration() -> None:
    file = ROOT / "deploy" / "memory-async-refactor.sql"
    assert file.read_text(encoding="utf-8") == migration_script(), (
        "run: .venv/bin/luma-memory migrate --print > deploy/memory-async-refactor.sql"
    )


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
NOT_ANSWERED = {
    *("address_unusable", "auth_required", "cache_unavailable", "database_setup"),
    *("deadline_exceeded", "invalid_dataset", "key_not_found", "migration_locked"),
    *("migration_refused", "no_database", "permissions_missing", "pgvector_missing"),
    *("provider_answer_too_large", "provider_input_empty", "provider_redirected"),
    *("provider_refused", "schema_missing", "setup", "wrong_setting"),
}


def test_every_error_code_is_documented() -> None:
    package = ROOT / "src" / "luma_memory"
    codes: set[str] = set()
    for file in package.rglob("*.py"):
        if {"cli", "testing", "embedded"} & set(file.relative_to(package).parts):
            continue
        text = file.read_text(encoding="utf-8")
        codes |= set(re.findall(r'\bcode(?:: str)?\s*=\s*"([a-z_]+)"', text))
        codes |= set(re.findall(r'PydanticCustomError\(\s*"([a-z_]+)"', text))
    assert len(codes) > 60
    documented = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "api.md").read_text("utf-8")))
    assert sorted(codes - documented - NOT_ANSWERED) == []
