"""A hook reads its few settings itself; they mean what they mean to every other command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from luma_memory.cli.hook_settings import hook_settings
from luma_memory.domain.errors import SetupError
from luma_memory.settings import load_settings

ENVIRONMENTS: list[dict[str, str]] = [
    {},
    {"MEMORY_API_URL": "", "MEMORY_HOOK_ENABLED": ""},
    {"MEMORY_API_URL": "https://memory.example.com/", "MEMORY_API_KEY": "k" * 30},
    {"memory_api_url": "HTTP://localhost:8080", "MEMORY_ADMIN_KEY": "a" * 30},
    {"MEMORY_API_KEY": "k" * 30, "MEMORY_ADMIN_KEY": "a" * 30},
    {"MEMORY_DATA_DIR": "/srv/data dir", "MEMORY_MCP_USER_ID": "ada"},
    *({"MEMORY_HOOK_ENABLED": text} for text in ("0", "OFF", "no", "False", "1", "On", "yes", "t")),
    {"MEMORY_HOOK_ENABLED": "maybe"},
    {"MEMORY_API_URL": "ftp://memory.example.com"},
]


@pytest.mark.parametrize("given", ENVIRONMENTS, ids=str)
def test_they_are_read_as_the_other_commands_read_them(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*os.environ]:
        if name.upper().startswith("MEMORY_"):
            monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    try:
        settings = load_settings()
    except SetupError:
        with pytest.raises(ValueError, match="MEMORY_"):
            hook_settings()
        return
    found = hook_settings()
    key = settings.client_key
    assert found.data_folder == settings.data_folder
    assert (found.enabled, found.api_url) == (settings.hook_enabled, settings.api_url)
    assert (found.key, found.user_id) == (
        None if key is None else key.get_secret_value(),
        settings.mcp_user_id,
    )


def test_a_hook_imports_the_standard_library_only() -> None:
    """Anything else costs every prompt of a host its time; pydantic alone takes 100 ms."""
    program = (
        "import sys, luma_memory.__main__, luma_memory.cli.hook_events\n"
        "foreign = {name.partition('.')[0] for name, module in sys.modules.items()"
        " if 'site-packages' in (getattr(module, '__file__', None) or '')}\n"
        "print(*foreign, *(name for name in sys.modules if name.startswith('luma_memory')))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = set(done.stdout.split())
    ours = {name for name in names if name.startswith("luma_memory")}
    assert names == ours
    assert "luma_memory.settings" not in ours
    assert "luma_memory.cli.main" not in ours
