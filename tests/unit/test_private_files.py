"""Files with users' data are readable by their owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from luma_memory.bootstrap.private_files import write_private_text


@pytest.mark.parametrize("existing_mode", [None, 0o644, 0o666])
def test_a_file_gets_mode_0600_whatever_it_had(tmp_path: Path, existing_mode: int | None) -> None:
    path = tmp_path / "graph.html"
    if existing_mode is not None:
        path.write_text("a longer text of before", encoding="utf-8")
        path.chmod(existing_mode)
    before = os.umask(0)
    try:
        write_private_text(path, "text é")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text(encoding="utf-8") == "text é"


def test_what_is_no_file_keeps_its_mode(capfd: pytest.CaptureFixture[str]) -> None:
    mode = stat.S_IMODE(Path(os.devnull).stat().st_mode)
    write_private_text(Path(os.devnull), "text")
    assert stat.S_IMODE(Path(os.devnull).stat().st_mode) == mode
