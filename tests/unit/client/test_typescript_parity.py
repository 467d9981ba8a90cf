"""The TypeScript SDK offers what the Python SDK does. Reads its sources; needs no Node.js."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from luma_memory.client import (
    AsyncMemoryClient,
    ImportProblemBody,
    ImportReportBody,
    ImportSampleBody,
)

SOURCES = Path(__file__).resolve().parents[3] / "sdk" / "typescript" / "src"
# What only a client with connections of its own has.
NOT_OFFERED = {"aclose"}
OTHER_NAMES = {"providers": "listProviders", "settings": "listSettings"}


def in_camel_case(name: str) -> str:
    return OTHER_NAMES.get(name) or re.sub("_(.)", lambda match: match[1].upper(), name)


def test_every_method_of_the_python_sdk_has_one() -> None:
    client = (SOURCES / "client.ts").read_text("utf-8")
    offered = set(re.findall(r"^  (?:async )?\*?(\w+)\(", client, re.MULTILINE))
    public = {
        name
        for name, _ in inspect.getmembers(AsyncMemoryClient, inspect.isfunction)
        if not name.startswith("_")
    }
    assert {in_camel_case(name) for name in public - NOT_OFFERED} - offered == set()
    assert len(public) > 60


def test_the_report_of_an_import_has_the_fields_of_the_service() -> None:
    # Sent as lines, so it is in no schema that the types could be generated from.
    types = (SOURCES / "types.ts").read_text("utf-8")
    (declared,) = re.findall(r"interface ImportReportBody \{\n(.*?)\n\}", types, re.DOTALL)
    assert set(re.findall(r"^  (\w+):", declared, re.MULTILINE)) == set(
        ImportReportBody.model_fields
    )
    for name, body in (("samples", ImportSampleBody), ("problems", ImportProblemBody)):
        (fields,) = re.findall(rf"^  {name}: {{ (.*?) }}\[\];", declared, re.MULTILINE)
        assert set(re.findall(r"(\w+):", fields)) == set(body.model_fields)
