"""Browsers for the console's tests: Chromium driven by the programs in `console/test`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.typescript_sdk import ROOT, installed_node

CONSOLE = ROOT / "console"
# Of a page, lists that must be empty.
_FAULTS = ("violations", "unnamed", "times", "moving", "focus")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def installed_browser() -> str:
    """Chromium's program; skips the test where it is not installed."""
    named = os.environ.get("CHROMIUM", "")
    found = shutil.which(named) if named else None
    for name in _BROWSERS:
        found = found or shutil.which(name)
    if found is None:
        pytest.skip("Chromium is not installed (or name it in CHROMIUM)")
    return found


def installed() -> tuple[str, str]:
    """Node.js and Chromium."""
    return installed_node(CONSOLE), installed_browser()


def plan(url: str, browser: str, **given: Any) -> str:
    """The argument of a program in `console/test`."""
    return json.dumps({"executable": browser, "url": f"{url}/ui/", **given})


def pages_report(printed: str) -> tuple[Mapping[str, Mapping[str, Any]], Mapping[str, list[str]]]:
    """By page, what was found on it; and what the browser should not have seen."""
    report = json.loads(printed)
    return report["pages"], report["seen"]


def check_pages(printed: str, *, count: int) -> None:
    """Raises AssertionError unless every page is accessible, fits its window and has no error."""
    pages, seen = pages_report(printed)
    wrong = {
        name: found
        for name, found in pages.items()
        if any(found[kind] for kind in _FAULTS) or found["overflow"] > 0
    }
    assert not wrong, json.dumps(wrong, indent=1)
    assert seen == {"errors": [], "hosts": [], "dialogs": [], "keys": []}
    assert len(pages) == count


def pictures_folder() -> Path | None:
    """Where the pictures of the documentation go; None unless they are wanted."""
    folder = os.environ.get("CONSOLE_PICTURES")
    return ROOT / folder if folder else None
