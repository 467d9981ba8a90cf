"""Adapters of frameworks that are not installed; tests/frameworks tests them with the real ones."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path

import pytest

import luma_memory

ROOT = Path(luma_memory.__file__).parent
EXTRAS = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
# module, what it imports first of its framework, extra
ADAPTERS = [
    ("langgraph", "langchain_core", "langgraph"),
    ("anthropic", "anthropic", "anthropic"),
    ("openai_agents", "agents", "openai-agents"),
    ("google_adk", "google", "google-adk"),
    ("llama_index", "llama_index", "llama-index"),
    ("agent_framework", "agent_framework", "agent-framework"),
    ("crewai", "crewai", "crewai"),
    ("pydantic_ai", "pydantic_ai", "pydantic-ai"),
    ("pydantic_ai_harness", "pydantic_ai_harness", "pydantic-ai-harness"),
]
OWN = {"__init__", "clients", "files", "item_batches", "missing", "tool_texts", "turns"}


def test_every_adapter_is_listed() -> None:
    found = {path.stem for path in (ROOT / "integrations").glob("*.py")} - OWN
    assert found == {module for module, _, _ in ADAPTERS}


@pytest.mark.parametrize(("module", "framework", "extra"), ADAPTERS)
def test_without_its_framework_an_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, framework: str, extra: str
) -> None:
    assert extra in EXTRAS
    monkeypatch.setitem(sys.modules, framework, None)
    with pytest.raises(ImportError, match=rf"pip install 'luma-memory\[{extra}\]'"):
        importlib.import_module(f"luma_memory.integrations.{module}")
