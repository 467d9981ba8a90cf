"""The JSON schema of a response as services enforce it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


def strict_schema(output: type[BaseModel]) -> dict[str, Any]:
    """OpenAI's strict form: every property required, no other ones allowed, no defaults.

    For models of plain fields, lists and other models; bounds (lengths, ranges, patterns), which
    the strict form does not know, are checked when the response is parsed.
    """
    schema: dict[str, Any] = _strict(output.model_json_schema())
    return schema


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    strict = {
        key: _named(value) if key in ("properties", "$defs") else _strict(value)
        for key, value in node.items()
        if key not in ("title", "default")
    }
    if node.get("type") == "object":
        strict["required"] = list(node.get("properties", {}))
        strict["additionalProperties"] = False
    return strict


def _named(schemas: dict[str, Any]) -> dict[str, Any]:
    """Schemas by name: a property may be called "title" or "default"."""
    return {name: _strict(schema) for name, schema in schemas.items()}
