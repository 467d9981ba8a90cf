"""The OpenAPI document as client generators and readers use it, and the reference page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from luma_memory.api.app import OPEN_PATHS, REFERENCE_PATH, openapi_document
from luma_memory.api.openapi import NULLS_OMITTED
from luma_memory.api.reference import (
    ASSETS,
    CONTENT_SECURITY_POLICY,
    reference_assets,
    reference_page,
)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document()


def references(part: Any) -> set[str]:
    return set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(part)))


def reachable(document: dict[str, Any], names: set[str]) -> set[str]:
    found: set[str] = set()
    while names:
        found |= names
        names = {
            name for known in names for name in references(document["components"]["schemas"][known])
        } - found
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_no_schema_refers_to_itself(document: dict[str, Any]) -> None:
    """TypeScript rejects such a type as a property of an interface (TS2502)."""
    schemas = document["components"]["schemas"]
    for name in schemas:
        assert name not in reachable(document, references(schemas[name])), name


def test_every_response_field_that_is_always_sent_is_required(document: dict[str, Any]) -> None:
    sent = {
        name for _, operation in operations(document) for name in references(operation["responses"])
    }
    optional = {
        (name, field)
        for name in reachable(document, sent)
        for field in document["components"]["schemas"][name].get("properties", {})
        if field not in document["components"]["schemas"][name].get("required", [])
    }
    assert {name for name, _ in optional} <= NULLS_OMITTED
    for name, field in optional:
        schema = document["components"]["schemas"][name]["properties"][field]
        assert {"type": "null"} in schema.get("anyOf", []), (name, field)


def test_request_fields_with_a_default_are_optional(document: dict[str, Any]) -> None:
    body = document["components"]["schemas"]["NewBlockBody"]
    assert sorted(body["required"]) == ["content", "user_id"]


def test_every_response_is_described(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            assert response["description"] not in ("", "Successful Response"), (name, status)
            if status != "204":
                assert response["content"], (name, status)
                assert all(content["schema"] for content in response["content"].values())


def test_no_plain_text_contains_markdown(document: dict[str, Any]) -> None:
    """Summaries and titles are shown as they are."""
    for name, operation in operations(document):
        assert "`" not in operation["summary"], name
    assert "`" not in document["info"]["summary"]


def test_the_reference_loads_its_own_assets_only() -> None:
    page = reference_page("Luma & Memory")
    loaded = re.findall(r"(?:src|href)='?([^\s'>]+)", page)
    assert "Luma &amp; Memory" in page
    assert set(loaded) - {"data:,", "openapi.json"} == {f"docs/{name}" for name in ASSETS}
    assert {f"{REFERENCE_PATH}/{name}" for name in ASSETS} <= set(OPEN_PATHS)
    assert not re.search(r"<script>|onload|onclick", page)
    assert "https:" not in CONTENT_SECURITY_POLICY
    assert all(asset.content for asset in reference_assets().values())
