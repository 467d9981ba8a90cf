"""The examples of frameworks run, without a model's key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "frameworks"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("langgraph_store", "Where is my sister? → My sister Ines lives in Porto."),
        ("memory_tool", "Ada lives in Porto."),
        ("agents_session", "And now? → I have 3 messages of this conversation."),
        ("adk_memory", "Where does my sister live? → My sister Ines lives in Porto."),
        ("llama_memory", "My sister Ines lives in Porto."),
        ("agent_framework_memory", "My sister Ines lives in Porto."),
        ("crewai_tools", "My sister Ines lives in Porto."),
        ("pydantic_ai_tools", "My sister Ines lives in Porto."),
        ("pydantic_ai_notebook", "My sister Ines lives in Porto."),
    ],
)
def test_an_example_runs(url: str, name: str, expected: str) -> None:
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "MEMORY_URL": url}
    )
    assert result.returncode == 0, result.stderr
    assert expected in result.stdout
