"""Hooks for Schemathesis: what it cannot derive from the OpenAPI document."""

from __future__ import annotations

import itertools
from typing import Any

import schemathesis
from schemathesis import GenerationMode

_numbers = itertools.count()
TIMEOUT_MS = 20_000


@schemathesis.hook
def before_call(context: Any, case: Any, _kwargs: Any) -> None:
    # Wrong credentials are counted by address, and it sends many: each comes from another one.
    number = next(_numbers)
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    case.headers = {**(case.headers or {}), "X-Forwarded-For": address}
    if case.meta is None or case.meta.generation.mode is GenerationMode.POSITIVE:
        _make_sense(case)


def _make_sense(case: Any) -> None:
    """Take away what only the service can make, or what contradicts the rest of the request."""
    for name in [*(case.query or {})]:
        # Which bytes are an export of a format is no matter of a schema.
        if name in ("cursor", "since", "after", "format", "time_zone"):
            del case.query[name]
    if case.path.endswith("/events"):
        # Or it stays open for minutes.
        case.query = {**(case.query or {}), "wait_seconds": 0}
    for name in [*case.headers]:
        if name.lower() in ("idempotency-key", "if-match", "last-event-id"):
            del case.headers[name]
    if isinstance(case.body, dict):
        # A key used before with another body is rejected, as documented.
        case.body = {name: case.body[name] for name in case.body if name != "idempotency_key"}
        # A timeout too short for the database returns 503, as documented.
        if isinstance(case.body.get("timeout_ms"), int | float):
            case.body["timeout_ms"] = max(case.body["timeout_ms"], TIMEOUT_MS)
        if case.path.endswith("/jobs/retry"):
            case.body = {**case.body, "all": True}
        # The fields and operators of a filter are documented in prose, not in the schema.
        if "url" in case.body:
            case.body = {**case.body, "url": "https://example.com/hook"}
        if "filters" in case.body:
            case.body = {**case.body, "filters": None}
        # A pattern cannot express which weeks are past or which years have a week 53.
        if case.body.get("week"):
            case.body = {**case.body, "week": "2024-W10"}
        if case.body.get("time_zone"):
            case.body = {**case.body, "time_zone": "Europe/Lisbon"}
        # The schema does not describe nested metadata, see JSON_VALUE_SCHEMA.
        if isinstance(case.body.get("metadata"), dict):
            case.body = {**case.body, "metadata": _without_nesting(case.body["metadata"])}
        if isinstance(case.body.get("blocks"), list):
            case.body = {
                **case.body,
                "blocks": [_flat_block(block) for block in case.body["blocks"]],
            }
        if case.method == "PATCH" and not case.body:
            case.body = {"source": None}


def _flat_block(block: Any) -> Any:
    if isinstance(block, dict) and isinstance(block.get("metadata"), dict):
        return {**block, "metadata": _without_nesting(block["metadata"])}
    return block


def _without_nesting(metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value if not isinstance(value, list | dict) else []
        for name, value in metadata.items()
    }
