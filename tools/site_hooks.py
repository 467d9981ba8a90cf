"""What MkDocs does for the site beside its plugins; see mkdocs.yml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from mkdocs.structure.toc import AnchorLink
from tools.diagrams import FENCE, drawing

from luma_memory.api.app import openapi_document
from luma_memory.api.reference import reference_body

_LINK = re.compile(r"\[([^]]*)\]\(((?:\.\./)+[^)\s]*|\.\./?)\)")
_MARK = "<!-- the reference of the HTTP API -->"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the decisions by their numbers. Every other page is listed in mkdocs.yml."""
    folder = Path(config.docs_dir)
    decisions = _section(_section(config.nav, "How it works"), "Decisions")
    decisions += [path.relative_to(folder).as_posix() for path in sorted(folder.glob("adr/*.md"))]
    return config


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Draw diagrams, and leave no link to a file of the repository that is no page."""
    folder = Path(config.docs_dir, page.file.src_uri).parent

    def linked(match: re.Match[str]) -> str:
        target = (folder / match.group(2).partition("#")[0]).resolve()
        return match.group() if target.is_relative_to(config.docs_dir) else match.group(1)

    return FENCE.sub(_drawn, _LINK.sub(linked, markdown))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the reference of the HTTP API where its page says."""
    if _MARK not in html:
        return html
    document = openapi_document()
    page.toc.items[0].children += [
        AnchorLink(f"{method.upper()} {path}", operation["operationId"], 2)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return html.replace(_MARK, reference_body(document))


def _drawn(match: re.Match[str]) -> str:
    path = drawing(match.group(1))
    if not path.exists():
        raise SystemExit(f"{path} is missing: run tools/diagrams.py")
    return f'<div class="diagram">{path.read_text(encoding="utf-8").strip()}</div>'


def _section(nav: Any, title: str) -> Any:
    return next(entry[title] for entry in nav if isinstance(entry, dict) and title in entry)
