"""The committed console: built from its sources, small, and without anything the policy refuses."""

from __future__ import annotations

import re

from tools.console_bundle import STATIC, built, check


def test_the_committed_files_belong_to_their_sources() -> None:
    assert check() is None


def test_there_is_no_inline_script_or_style_and_no_other_host() -> None:
    page = (STATIC / "index.html").read_text("utf-8")
    assert re.findall(r"<script(?![^>]*\ssrc=)", page) == []
    assert "<style" not in page
    assert " style=" not in page
    assert re.findall(r"https?://", page) == []
    assert {file.suffix for file in built()} == {".html", ".css", ".js"}
