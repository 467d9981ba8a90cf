"""What is imported is declared, in the part of the installation that uses it."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.support.imports import imported_packages, installed_packages

import luma_memory
from luma_memory.bootstrap.providers import open_providers
from luma_memory.bootstrap.tracing import tracing
from luma_memory.cache.in_process import InProcessCache
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.errors import SetupError
from luma_memory.domain.extras import missing_extra
from luma_memory.providers.breaker import NoCircuits
from luma_memory.settings import load_settings
from luma_memory.testing.event_log import EventLog

ROOT = Path(luma_memory.__file__).parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text())["project"]
# They come with what is declared and are used beside it: pydantic, FastAPI, aiohttp, mcp.
BROUGHT_ALONG = {"pydantic_core", "starlette", "yarl", "mcp_types"}
CLIENT = ("client", "protocol", "domain", "__init__.py", "__main__.py")


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in requirements}


DECLARED = {
    "client": names(PROJECT["dependencies"]),
    **{name: names(PROJECT["optional-dependencies"][name]) for name in ("server", "local")},
    **{
        name: names(PROJECT["optional-dependencies"][name])
        for name in ("embedded", "tracing", "mcp")
    },
}


def foreign_imports(paths: Iterable[Path]) -> set[str]:
    found = set().union(*(imported_packages(path) for path in paths))
    return found - sys.stdlib_module_names - {"luma_memory"} - BROUGHT_ALONG


def is_installed_by(package: str, distributions: set[str]) -> bool:
    return any(package in installed_packages(name) for name in distributions)


def test_every_foreign_import_is_declared_in_the_extra_its_error_names() -> None:
    paths = (path for path in ROOT.rglob("*.py") if path.parent.name != "integrations")
    for package in foreign_imports(paths):
        if is_installed_by(package, DECLARED["client"]):
            continue
        message = str(missing_extra(ModuleNotFoundError(name=f"{package}.inner")))
        (extra,) = re.findall(r"luma-memory\[(\w+)\]", message)
        assert is_installed_by(package, DECLARED[extra]), (package, extra)


def test_the_client_imports_nothing_of_the_server() -> None:
    paths = (path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] in CLIENT)
    for package in foreign_imports(paths):
        assert is_installed_by(package, DECLARED["client"]), package


def test_a_missing_module_of_our_own_is_a_bug() -> None:
    with pytest.raises(ModuleNotFoundError):
        missing_extra(ModuleNotFoundError(name="luma_memory.nowhere"))


async def test_without_the_local_model_an_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "luma_memory.providers.embedding.local", None)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.delitem(sys.modules, "luma_memory.providers.embedding.local")
    monkeypatch.delitem(sys.modules, "luma_memory.providers.embedding.encoder", raising=False)
    clock = SystemClock()
    cache = InProcessCache(size_bytes_max=1 << 20, clock=clock)
    with pytest.raises(SetupError, match=r"pip install 'luma-memory\[local\]'"):
        await open_providers(load_settings(), NoCircuits(), cache, clock)


async def test_the_service_runs_without_the_tracing_libraries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delitem(sys.modules, "luma_memory.telemetry.span_export", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    events = EventLog()
    async with tracing(load_settings(), "api", events):
        pass
    (line,) = [event.message() for event in events.events]
    assert "luma-memory[tracing]" in line
