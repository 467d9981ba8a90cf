"""The settings of a hook, read as `luma_memory.settings` reads them.

Standard library only: that module alone takes longer to import than a hook may take.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

_PREFIX: Final = "MEMORY_"
_FALSE: Final = frozenset({"0", "off", "f", "false", "n", "no"})
_TRUE: Final = frozenset({"1", "on", "t", "true", "y", "yes"})


class HookSettings(NamedTuple):
    """api_url: None for the service that sessions share. key: of api_url."""

    data_dir: Path | None
    enabled: bool
    api_url: str | None
    key: str | None
    user_id: str | None

    @property
    def data_folder(self) -> Path:
        return self.data_dir or _user_data_folder()


def hook_settings(environment: Mapping[str, str] = os.environ) -> HookSettings:
    """Raises ValueError, with the variable's name, for a value that cannot be used."""
    # As there: names in any case, and an empty value is none.
    given = {name.upper(): value for name, value in environment.items() if value}
    folder = given.get(f"{_PREFIX}DATA_DIR")
    url = given.get(f"{_PREFIX}API_URL")
    if url is not None and not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"{_PREFIX}API_URL")
    return HookSettings(
        data_dir=None if folder is None else Path(folder),
        enabled=_flag(given, f"{_PREFIX}HOOK_ENABLED"),
        api_url=url,
        key=given.get(f"{_PREFIX}API_KEY") or given.get(f"{_PREFIX}ADMIN_KEY"),
        user_id=given.get(f"{_PREFIX}MCP_USER_ID"),
    )


def _flag(given: Mapping[str, str], name: str) -> bool:
    text = given.get(name, "true").lower()
    if text not in _TRUE | _FALSE:
        raise ValueError(name)
    return text in _TRUE


def _user_data_folder() -> Path:
    import platformdirs

    return platformdirs.user_data_path("luma-memory", appauthor=False)
