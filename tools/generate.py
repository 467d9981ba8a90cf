"""Write the files that are generated from the code; `make generate` runs it.

docs/settings.md (between its two marks) · .env.example · deploy/memory-async-refactor.sql
A test compares each with the output of this script.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from luma_memory.cli.settings_reference import as_environment_file, as_markdown
from luma_memory.postgres.migrator import migration_script

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- made by `make generate` from src/luma_memory/settings.py -->"
END = "<!-- end of what is made -->"


def generated() -> Mapping[Path, str]:
    """The whole text of each file as it should be."""
    settings = ROOT / "docs" / "settings.md"
    return {
        settings: _between_marks(settings.read_text(encoding="utf-8"), as_markdown()),
        ROOT / ".env.example": as_environment_file(),
        ROOT / "deploy" / "memory-async-refactor.sql": migration_script(),
    }


def _between_marks(text: str, made: str) -> str:
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    return f"{head}{BEGIN}\n\n{made}\n\n{END}{tail}"


def main() -> None:
    for path, text in generated().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
