"""The guide "Add a field to a block" holds: its steps, applied to a copy, make its tests pass."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tools.apply_steps import Step, StepError, steps_of

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "contributing" / "add-a-field.md"
COPIED = ("src", "tests", "tools", "docs", "deploy", "pyproject.toml", ".env.example")


def _copy_to(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    return folder


def test_the_steps_add_a_field(tmp_path: Path) -> None:
    root = _copy_to(tmp_path)
    steps = list(steps_of(GUIDE.read_text(encoding="utf-8")))
    assert len(steps) == 8
    for step in steps:
        step.apply(root)


def test_without_the_migration_the_guides_tests_fail(tmp_path: Path) -> None:
    """Or they would not test the field."""
    root = _copy_to(tmp_path)
    *steps, last = steps_of(GUIDE.read_text(encoding="utf-8"))
    for step in steps:
        if step.new is None or not step.new.endswith(".sql"):
            step.apply(root)
    with pytest.raises(StepError):
        last.apply(root)


def test_a_step_that_does_not_fit_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(StepError, match="has not one line"):
        Step("", "y = 2\n", target="a.py", line="z = 3").apply(tmp_path)
