"""The session in docs/mcp.md is what the tools return today."""

from __future__ import annotations

import json
import re

import pytest
from tools.mcp_transcript import FIRST, PAGE, SECOND, recorded, recorded_part

CHANGING = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
    (r"\d{4}-\d\d-\d\dT[\d:]+Z", "TIME"),
)


def masked(text: str) -> str:
    """Without what differs between two recordings."""
    for pattern, name in CHANGING:
        text = re.sub(pattern, name, text)
    return text


def test_the_page_has_the_calls_of_its_script() -> None:
    written = re.findall(r"^→ (\w+) (.+)$", recorded_part(PAGE.read_text()), re.MULTILINE)
    calls = [(tool, json.loads(arguments)) for tool, arguments in written]
    assert calls == [*FIRST, *SECOND]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_page_has_the_output_of_its_script() -> None:
    page = recorded_part(PAGE.read_text(encoding="utf-8"))
    assert masked(page) == masked((await recorded()).strip())
