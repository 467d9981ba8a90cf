"""What stands around the client: it is generated, light, and its surface is listed."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from luma_memory import client
from luma_memory.client import AsyncMemoryClient, MemoryClient
from luma_memory.protocol.context import ContextBody
from luma_memory.protocol.search import SearchBody

ROOT = Path(__file__).parents[3]


def test_the_synchronous_client_is_generated_from_its_source() -> None:
    tool = ROOT / "tools" / "synchronous_client.py"
    command = [sys.executable, str(tool), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in found
            if not name.startswith("_") and name not in ("close", "aclose")
        }

    assert methods(MemoryClient) == methods(AsyncMemoryClient)
    assert len(methods(MemoryClient)) > 25
    assert not any(
        inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
        for _, method in inspect.getmembers(MemoryClient, inspect.isfunction)
    )


@pytest.mark.parametrize(("method", "body"), [("search", SearchBody), ("get_context", ContextBody)])
def test_a_question_can_say_all_that_the_service_reads(method: str, body: type[BaseModel]) -> None:
    accepted = set(inspect.signature(getattr(AsyncMemoryClient, method)).parameters)
    assert set(body.model_fields) <= accepted


def test_what_is_public_is_listed_and_there() -> None:
    assert sorted(client.__all__, key=str.lower) == sorted(set(client.__all__), key=str.lower)
    public = {
        name
        for name, value in vars(client).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert set(client.__all__) == public


@pytest.mark.parametrize("name", ["Batch", "Context", "Problem", "Retry", "Search"])
def test_former_names_of_responses_can_still_be_imported(name: str) -> None:
    assert getattr(client, f"{name}Answer") is getattr(client, f"{name}Response")
    with pytest.raises(AttributeError, match="NoSuchResponse"):
        client.NoSuchResponse  # noqa: B018
