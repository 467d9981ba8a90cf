"""Settings of a child process, passed in its environment and never in its arguments."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from pydantic import SecretStr

from luma_memory.settings import Settings, variable_name


def python_arguments(module: str) -> list[str]:
    """The command line that runs a module with this interpreter.

    -P: a file in the current directory must not shadow a library.
    """
    return [sys.executable, "-P", "-m", module]


def settings_environment(
    settings: Settings, *, base: Mapping[str, str] = os.environ, **overrides: object
) -> dict[str, str]:
    """`base` with exactly these settings. overrides: fields of Settings; None unsets one."""
    fields = {name: getattr(settings, name) for name in Settings.model_fields} | overrides
    known = {variable_name(name): value for name, value in fields.items()}
    environment = {name: value for name, value in base.items() if name not in known}
    environment |= {name: _text(value) for name, value in known.items() if value is not None}
    return environment | {"PYTHONUNBUFFERED": "1"}


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case SecretStr():
            return value.get_secret_value()
        case _:
            return str(value)
