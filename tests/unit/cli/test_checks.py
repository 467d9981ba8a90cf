"""The pure parts of `doctor`."""

from __future__ import annotations

import importlib.metadata

import pytest

from luma_memory.cli.checks import (
    Finding,
    check_unknown_settings,
    package_problem,
    version_numbers,
    worst,
)


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("1.20.0", (1, 20)), ("1.20rc1", (1, 20)), ("2", (2,)), ("0.8.5+local", (0, 8, 5))],
)
def test_version_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert version_numbers(version) == numbers


def test_packages_that_are_missing_old_or_right() -> None:
    found = importlib.metadata.version("rich")
    assert package_problem("rich>=1") is None
    assert package_problem(f"rich>={found}; sys_platform != 'win32'") is None
    assert package_problem("rich[extra]>=999") == f"rich {found} is older than 999"
    assert package_problem("no-such-package-here>=1") == "no-such-package-here is missing"


def test_an_unknown_setting_is_reported_with_the_nearest_name() -> None:
    environment = {"MEMORY_RETRY_ATEMPTS": "3", "MEMORY_PORT": "1", "PATH": ""}
    (finding,) = check_unknown_settings(environment)
    assert finding.verdict == "warn"
    assert "MEMORY_RETRY_ATTEMPTS" in finding.fix


def test_the_worst_verdict_counts() -> None:
    ok, warn, fail = Finding("a", "ok", ""), Finding("a", "warn", ""), Finding("a", "fail", "")
    assert worst([ok, fail, warn]) == "fail"
    assert worst([ok, warn]) == "warn"
    assert worst([ok]) == worst([]) == "ok"
