"""What reaches a terminal."""

from __future__ import annotations

import pytest

from luma_memory.cli.output import plain, print_error, printable, progress, shortened


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
