"""The API's reference as one page, made from the OpenAPI document.

Plain HTML without a script: the usual viewers load themselves from somebody else's servers, which
a machine without a way out cannot reach, and which then could run anything beside a key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from luma_memory.api.routing import PERMISSION

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 3rem } code, pre { font: 14px/1.4 ui-monospace, monospace }
pre { background: #8881; padding: .75rem; overflow-x: auto } td, th { padding: .1rem .75rem .1rem 0;
text-align: left; vertical-align: top } b { font-weight: 600 } :root { color-scheme: light dark }
"""
_CODE: Final = re.compile(r"`([^`]+)`")
# Nothing is loaded and nothing runs, whatever a description says.
CONTENT_SECURITY_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def reference_page(document: Mapping[str, Any]) -> str:
    """The whole page. Everything that comes from the document is escaped."""
    title = f"{document['info']['title']} {document['info']['version']}"
    return "\n".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8>",
            "<meta name=viewport content='width=device-width'>",
            f"<title>{escape(title)}</title><style>{_STYLE}</style>",
            f"<h1>{escape(title)}</h1>",
            "<p><a href=openapi.json>openapi.json</a></p>",
            reference_body(document),
            "</html>",
        ]
    )


def reference_body(document: Mapping[str, Any]) -> str:
    """The reference alone, for a page of somebody else's making."""
    return "\n".join(
        [
            _prose(document["info"].get("description", "")),
            *_contents(document),
            *_operations(document),
            "<h2 id='schemas'>Schemas</h2>",
            *_schemas(document),
        ]
    )


def _contents(document: Mapping[str, Any]) -> Iterator[str]:
    yield "<table>"
    for method, path, operation in _each(document):
        summary = escape(operation.get("summary", ""))
        anchor = escape(operation["operationId"])
        yield (
            f"<tr><td>{method}<td><a href='#{anchor}'><code>{escape(path)}</code></a><td>{summary}"
        )
    yield "</table>"


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    for method, path, operation in _each(document):
        anchor = escape(operation["operationId"])
        yield f"<h2 id='{anchor}'>{method} <code>{escape(path)}</code></h2>"
        yield _prose(operation.get("description", ""))
        if PERMISSION in operation:
            yield f"<p>Permission: <b>{escape(operation[PERMISSION])}</b></p>"
        yield from _parameters(operation.get("parameters", []))
        for content in operation.get("requestBody", {}).get("content", {}).values():
            yield f"<h3>Body</h3><pre>{_shown(content)}</pre>"
        yield "<h3>Answers</h3><table>"
        for status, answer in operation["responses"].items():
            yield f"<tr><td>{escape(status)}<td>{escape(answer['description'])}"
        yield "</table>"


def _parameters(parameters: list[Mapping[str, Any]]) -> Iterator[str]:
    if not parameters:
        return
    yield "<h3>Parameters</h3><table>"
    for parameter in parameters:
        required = ", required" if parameter.get("required") else ""
        yield (
            f"<tr><td><code>{escape(parameter['name'])}</code><td>{escape(parameter['in'])}{required}"
            f"<td>{escape(parameter.get('description', ''))}"
        )
    yield "</table>"


def _schemas(document: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in sorted(document["components"]["schemas"].items()):
        text = escape(json.dumps(schema, indent=2, ensure_ascii=False))
        yield f"<details id='schema-{escape(name)}'><summary>{escape(name)}</summary>"
        yield f"<pre>{text}</pre></details>"


def _shown(content: Mapping[str, Any]) -> str:
    reference = content["schema"].get("$ref", "").rpartition("/")[2]
    if reference:
        return f"<a href='#schema-{escape(reference)}'>{escape(reference)}</a>"
    return escape(json.dumps(content["schema"], indent=2, ensure_ascii=False))


def _each(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _prose(text: str) -> str:
    parts = [escape(part) for part in text.split("\n\n") if part.strip()]
    return "".join("<p>" + _CODE.sub(r"<code>\1</code>", part) + "</p>" for part in parts)
