"""JSON schemas as short as they can be: a host puts every tool's schemas into each prompt."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

# Checked by the models, with an error that names the limit; of little use to a reader.
_DROPPED = frozenset(
    {
        *("title", "pattern", "minLength", "maxLength", "minItems", "propertyNames"),
        *("examples", "$defs", "additionalProperties", "minimum"),
    }
)
# Larger limits are met by accident only.
_SHOWN_MAXIMUM = 1_000


def compact_schema(model: type[BaseModel], *, output: bool = False) -> dict[str, Any]:
    """The model's schema with references resolved, and without titles and nullable branches.

    output: describes results, where defaults mean nothing.
    """
    schema = model.model_json_schema(mode="serialization" if output else "validation")
    return _compact(schema, schema.get("$defs", {}), output=output)


def _compact(
    schema: dict[str, Any], definitions: dict[str, Any], *, output: bool
) -> dict[str, Any]:
    schema = _resolved(schema, definitions)
    kept = {key: value for key, value in schema.items() if key not in _DROPPED}
    if output or kept.get("default", 0) is None:
        kept.pop("default", None)
    if kept.get("maximum", 0) > _SHOWN_MAXIMUM:
        del kept["maximum"]
    if "properties" in kept:
        kept.pop("description", None)  # the model's docstring
        kept["properties"] = {
            name: _compact(value, definitions, output=output)
            for name, value in kept["properties"].items()
        }
    if "items" in kept:
        kept["items"] = _compact(kept["items"], definitions, output=output)
    return kept


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A reference replaced by its target, and a nullable field by an optional one."""
    branches = [item for item in schema.get("anyOf", []) if item != {"type": "null"}]
    if len(branches) == 1:
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return _resolved({**branches[0], **rest}, definitions)
    if "$ref" in schema:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        name = schema["$ref"].rpartition("/")[2]
        return _resolved({**definitions[name], **rest}, definitions)
    return schema
