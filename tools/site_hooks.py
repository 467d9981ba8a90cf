"""Hooks of the documentation site in addition to its plugins; see mkdocs.yml."""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from tools.diagrams import FENCE, drawing

from luma_memory.api.app import openapi_document
from luma_memory.api.reference import STYLE, reference_assets

_LINK = re.compile(r"\[([^]]*)\]\(((?:\.\./)+[^)\s]*|\.\./?)\)")
_MARK = "<!-- the reference of the HTTP API -->"
_REFERENCE = """
<link rel=stylesheet href=swagger-ui.css><link rel=stylesheet href=reference.css>
<div id=reference></div>
<script src=swagger-ui-bundle.js></script><script src=reference.js></script>
"""
# The site has no service behind it, so requests cannot be sent from here.
_OPTIONS = 'dom_id: "#reference", deepLinking: true, supportedSubmitMethods: [], validatorUrl: null'


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the decision records by number. All other pages are listed in mkdocs.yml."""
    folder = Path(config.docs_dir)
    decisions = _section(_section(config.nav, "Internals"), "Decisions")
    decisions += [path.relative_to(folder).as_posix() for path in sorted(folder.glob("adr/*.md"))]
    return config


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert the drawn diagrams, and turn links to files outside the site into plain text."""
    folder = Path(config.docs_dir, page.file.src_uri).parent

    def linked(match: re.Match[str]) -> str:
        target = (folder / match.group(2).partition("#")[0]).resolve()
        return match.group() if target.is_relative_to(config.docs_dir) else match.group(1)

    return FENCE.sub(_drawn, _LINK.sub(linked, markdown))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the reference of the HTTP API on its page: a list of all routes, and Swagger UI."""
    if _MARK not in html:
        return html
    document = openapi_document()
    rows = "".join(
        f"<tr><td>{method.upper()}<td><code>{escape(path)}</code><td>{escape(operation['summary'])}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    table = f"<table><tr><th>Method<th>Path<th>Operation{rows}</table>"
    return html.replace(_MARK, table + _REFERENCE)


def on_post_build(config: MkDocsConfig) -> None:
    """Write what the reference loads. A page opened as a file cannot fetch the document."""
    folder = Path(config.site_dir, "http-reference")
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        folder.joinpath(name).write_bytes(reference_assets()[name].content)
    folder.joinpath("reference.css").write_text(STYLE, encoding="utf-8")
    start = f"SwaggerUIBundle({{spec: {json.dumps(openapi_document())}, {_OPTIONS}}});"
    folder.joinpath("reference.js").write_text(start, encoding="utf-8")


def _drawn(match: re.Match[str]) -> str:
    path = drawing(match.group(1))
    if not path.exists():
        raise SystemExit(f"{path} is missing: run tools/diagrams.py")
    svg = path.read_text(encoding="utf-8").strip()
    # In its own size: scaled down to the page, its text would be too small to read.
    width = re.search(r"max-width: ([\d.]+)px", svg)
    if width is not None:
        svg = svg.replace('width="100%"', f'width="{width.group(1)}"', 1)
    return f'<div class="diagram">{svg}</div>'


def _section(nav: Any, title: str) -> Any:
    return next(entry[title] for entry in nav if isinstance(entry, dict) and title in entry)
