"""A cursor continues the list it was made for, and no other."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.domain.errors import Invalid
from luma_memory.domain.job import JOB_ID_MAX
from luma_memory.protocol.cursors import Cursors

CURSORS = Cursors(b"a secret of this installation")
OWNER = ("default", "ada", "blocks")
NUMBERS = ("default", None, "jobs")


@given(st.uuids())
def test_a_block_comes_back(last: UUID) -> None:
    cursor = CURSORS.after_block(last, owner=OWNER)
    assert CURSORS.block(cursor, owner=OWNER) == last


@given(st.integers(0, JOB_ID_MAX))
def test_a_number_comes_back(last: int) -> None:
    assert CURSORS.number(CURSORS.after_number(last, owner=NUMBERS), owner=NUMBERS) == last


@pytest.mark.parametrize(
    "owner",
    [
        ("default", "bob", "blocks"),
        ("other", "ada", "blocks"),
        ("default", "ada", "jobs"),
        ("default", None, "blocks"),
        ("default", "ada"),
        ('default", "ada', "blocks"),
    ],
)
def test_another_list_refuses_it(owner: tuple[str | None, ...]) -> None:
    cursor = CURSORS.after_block(UUID(int=7), owner=OWNER)
    with pytest.raises(Invalid, match="cursor"):
        CURSORS.block(cursor, owner=owner)


def test_another_installation_refuses_it() -> None:
    with pytest.raises(Invalid):
        Cursors(b"another").block(CURSORS.after_block(UUID(int=7), owner=OWNER), owner=OWNER)


@given(st.text(max_size=60))
def test_what_is_made_up_is_refused(cursor: str) -> None:
    for read in (CURSORS.block, CURSORS.number):
        with pytest.raises(Invalid) as refused:
            read(cursor, owner=OWNER)
        assert refused.value.code == "bad_cursor"


@given(st.integers(0, 42), st.sampled_from("ABCDEFGHabcdefgh0123-_"))
def test_a_changed_character_is_noticed(place: int, character: str) -> None:
    cursor = CURSORS.after_block(UUID(int=7), owner=OWNER)
    place = min(place, len(cursor) - 2)  # the last one holds bits that are not used
    if cursor[place] == character:
        return
    changed = cursor[:place] + character + cursor[place + 1 :]
    with pytest.raises(Invalid):
        CURSORS.block(changed, owner=OWNER)
