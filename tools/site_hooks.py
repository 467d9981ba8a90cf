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
    """Put every page into the navigation: decisions under theirs, the others at the end."""
    docs = Path(config.docs_dir)
    listed = set(_paths(config.nav))
    pages = [path.relative_to(docs).as_posix() for path in sorted(docs.rglob("*.md"))]
    missing = [page for page in pages if page not in listed]
    decisions = _section(_section(config.nav, "How it works"), "Decisions")
    decisions += [page for page in missing if page.startswith("adr/")]
    others = [page for page in missing if not page.startswith("adr/")]
    if others and config.nav is not None:
        config.nav.append({"More": others})
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


def _paths(nav: Any) -> list[str]:
    match nav:
        case str():
            return [nav]
        case list():
            return [path for entry in nav for path in _paths(entry)]
        case dict():
            return [path for entry in nav.values() for path in _paths(entry)]
        case _:
            return []
