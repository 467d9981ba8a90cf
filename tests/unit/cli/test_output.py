"""What reaches a terminal."""

from __future__ import annotations

import pytest

from luma_memory.cli.output import Bar, plain, print_error, printable, progress, shortened


def test_stored_text_cannot_command_a_terminal() -> None:
    assert printable("a\x1b[2Jb\x9bc\u202ed") == "a�[2Jb�c�d"


def test_letters_line_ends_and_emoji_stay() -> None:
    text = "Grüße,\n\t家族 👨‍👩‍👧"
    assert printable(text) == text


def test_stored_text_is_no_markup() -> None:
    assert plain("[bold]x[/bold]").plain == "[bold]x[/bold]"


@pytest.mark.parametrize(
    ("text", "expected"), [("short", "short"), ("a\n b", "a b"), ("abcdefgh", "abcd…")]
)
def test_shortened_is_one_line(text: str, expected: str) -> None:
    assert shortened(text, 5) == expected


def test_an_error_is_one_plain_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("no [such] thing: " + "x" * 300)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "luma-memory: no [such] thing: " + "x" * 300 + "\n"


def test_progress_without_a_terminal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("blocks", 3) as bar:
        bar.advance(2)
        bar.show(1)
        bar.advance()
    assert capsys.readouterr().err.startswith("blocks: 3 of 3, ")


def test_progress_shows_rate_and_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("luma_memory.cli.output.time.monotonic", lambda: now[0])
    bar = Bar("bytes read", 300_000_000)
    assert (bar.amount, bar.pace) == ("0.0 of 300.0 MB", "")
    now[0] += 4
    bar.advance(100_000_000)
    assert (bar.amount, bar.pace) == ("100.0 of 300.0 MB", "25.0 MB/s, 0:00:08 left")
    bar.advance(200_000_000)
    assert bar.pace == "75.0 MB/s"
    assert Bar("blocks", None).amount == "0"
