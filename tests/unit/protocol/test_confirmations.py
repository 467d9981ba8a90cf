"""Confirmations of a bulk deletion: for one selection, one count and some minutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.domain.block_selection import SelectedBlocks
from luma_memory.domain.errors import Conflict, Invalid
from luma_memory.protocol.confirmations import VALID_FOR, Confirmations
from luma_memory.protocol.cursors import Cursors

NOW = datetime(2026, 3, 4, tzinfo=UTC)
SECRET = b"s" * 32
ISSUER = Confirmations(SECRET)
SELECTED = SelectedBlocks(7, UUID(int=99), 2**64 - 1)
OF = {"project_id": "p", "narrowed": None, "filters": {"source": "mail"}}


def test_a_confirmation_returns_what_was_counted() -> None:
    text = ISSUER.issue(SELECTED, of=OF, now=NOW).text
    same = dict(reversed(OF.items()))
    assert ISSUER.selected(text, of=same, now=NOW + VALID_FOR - timedelta(seconds=1)) == SELECTED


@pytest.mark.parametrize(
    "change",
    [{"project_id": "q"}, {"narrowed": "ann"}, {"filters": {"source": "chat"}}, {"all": True}],
)
def test_a_confirmation_is_for_one_selection(change: dict[str, object]) -> None:
    text = ISSUER.issue(SELECTED, of=OF, now=NOW).text
    with pytest.raises(Invalid) as error:
        ISSUER.selected(text, of=OF | change, now=NOW)
    assert error.value.code == "confirmation_invalid"


def test_a_confirmation_expires() -> None:
    text = ISSUER.issue(SELECTED, of=OF, now=NOW).text
    with pytest.raises(Conflict) as error:
        ISSUER.selected(text, of=OF, now=NOW + VALID_FOR)
    assert error.value.code == "confirmation_expired"


@given(st.text())
def test_any_other_text_is_rejected(text: str) -> None:
    with pytest.raises(Invalid):
        ISSUER.selected(text, of=OF, now=NOW)


def test_a_cursor_is_no_confirmation() -> None:
    cursor = Cursors(SECRET).after_values(["x" * 30], owner=["p"])
    with pytest.raises(Invalid):
        ISSUER.selected(cursor, of=OF, now=NOW)
