"""The check that the TypeScript SDK's types belong to the OpenAPI document."""

from __future__ import annotations

from tools.typescript_types import head, is_current, reduced


def test_a_change_of_the_document_or_of_the_file_is_seen() -> None:
    body = "export interface paths {}\n"
    written = head("{}", body) + body
    assert is_current("{}", written)
    assert not is_current('{"a": 1}', written)
    assert not is_current("{}", written + "// edited\n")
    assert not is_current("{}", "")


def test_error_responses_and_the_version_are_left_out() -> None:
    ok = {"description": "x", "content": {"application/json": {}}}
    document = {
        "info": {"title": "T", "version": "1.2"},
        "paths": {"/a": {"get": {"responses": {"200": ok, "404": ok}, "summary": "A"}}},
    }
    found = reduced(document)
    assert list(found["paths"]["/a"]["get"]["responses"]) == ["200"]
    assert found["paths"]["/a"]["get"]["summary"] == "A"
    assert found["info"]["version"] == "0"
