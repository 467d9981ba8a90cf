"""The text of an item that is searched: what JSON paths select in its value.

A path is a list of steps: `a.b` is a member of a member, `a[0]` an element (from the end with a
negative number), `a[*]` every element or member, `$` the value itself. What a path selects
contributes all of its texts and numbers; what is not there contributes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from luma_memory.domain.block import CONTENT_CHARACTERS_MAX
from luma_memory.domain.errors import Invalid
from luma_memory.domain.item import ItemIndex

STEPS_MAX: Final = 16
_STEP: Final = re.compile(r"(?:^|\.)([^.\[\]]+)|\[(\*|-?\d{1,9})\]")


def item_text(value: Any, index: ItemIndex) -> str:
    """The text to index, empty for none; parts are separated by line breaks.

    Of more than 100,000 characters the rest is left out. Raises Invalid (code invalid_index).
    """
    if index is False:
        return ""
    if index is True:
        parts = _texts(value, is_named=False)
    else:
        selected = [found for path in index for found in _selected(value, _steps(path))]
        parts = (part for found in selected for part in _texts(found, is_named=True))
    return _joined(parts)


def _joined(parts: Iterator[str]) -> str:
    taken: list[str] = []
    left = CONTENT_CHARACTERS_MAX
    for part in parts:
        if left <= 0:
            break
        taken.append(part[:left])
        left -= len(part) + 1
    text = "\n".join(taken)
    return text if text.strip() else ""


def _texts(value: Any, *, is_named: bool) -> Iterator[str]:
    """Every text in the value; numbers too, where a path names the value."""
    match value:
        case str():
            yield value
        case Mapping():
            for member in value.values():
                yield from _texts(member, is_named=is_named)
        case list() | tuple():
            for element in value:
                yield from _texts(element, is_named=is_named)
        case bool() | None:
            return
        case int() | float() if is_named:
            yield str(value)
        case _:
            return


def _steps(path: str) -> Sequence[str | int]:
    if path == "$":
        return ()
    steps: list[str | int] = []
    position = 0
    for match in _STEP.finditer(path):
        if match.start() != position:
            break
        position = match.end()
        name, element = match.groups()
        steps.append(name if name is not None else element if element == "*" else int(element))
    if position != len(path) or not 1 <= len(steps) <= STEPS_MAX:
        raise Invalid(
            f"index holds a path that cannot be read; a path looks like a.b[*].c and has at most"
            f" {STEPS_MAX} steps",
            code="invalid_index",
            field="index",
        )
    return steps


def _selected(value: Any, steps: Sequence[str | int]) -> Iterator[Any]:
    if not steps:
        yield value
        return
    step, rest = steps[0], steps[1:]
    match value:
        case Mapping() if step == "*":
            for member in value.values():
                yield from _selected(member, rest)
        case Mapping() if isinstance(step, str) and step in value:
            yield from _selected(value[step], rest)
        case list() | tuple() if step == "*":
            for element in value:
                yield from _selected(element, rest)
        case list() | tuple() if isinstance(step, int) and -len(value) <= step < len(value):
            yield from _selected(value[step], rest)
        case _:
            return
