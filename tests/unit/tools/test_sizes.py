"""The limits on the length of files and functions."""

from __future__ import annotations

from tools.sizes import FILE_LINES_MAX, FUNCTION_LINES_MAX, oversized


def function(lines: int, *, start: str = "def f():") -> str:
    return f"{start}\n" + "    pass\n" * (lines - 1)


def test_sources_within_the_limits_pass() -> None:
    assert not [*oversized("a.py", function(FUNCTION_LINES_MAX))]
    assert not [*oversized("a.py", "x = 1\n" * FILE_LINES_MAX)]


def test_a_long_function_is_reported_with_its_line() -> None:
    for start in ("def f():", "async def f():"):
        source = "x = 1\n" + function(FUNCTION_LINES_MAX + 1, start=start)
        (message,) = oversized("a.py", source)
        assert message.startswith("a.py:2: function f has 81 lines")


def test_a_long_method_and_a_long_inner_function_are_reported() -> None:
    body = "\n".join(f"    {line}" for line in function(FUNCTION_LINES_MAX + 1).splitlines())
    assert len([*oversized("a.py", f"class A:\n{body}\n")]) == 1
    assert len([*oversized("a.py", f"def g():\n{body}\n")]) == 2


def test_a_long_file_is_reported() -> None:
    (message,) = oversized("a.py", "x = 1\n" * (FILE_LINES_MAX + 1))
    assert message == "a.py: 501 lines, at most 500"
