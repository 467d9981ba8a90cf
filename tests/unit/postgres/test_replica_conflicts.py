"""How a read that a replica cancelled is distinguished from a replica that does not respond."""

from __future__ import annotations

import asyncpg
import pytest

from luma_memory.domain.errors import StoreUnavailable
from luma_memory.postgres.errors import translated
from luma_memory.postgres.replica import is_conflict


def _raised(error: Exception) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as raised, translated():
        raise error
    return raised.value


def _closed_because_of(cause: Exception | None) -> asyncpg.ConnectionDoesNotExistError:
    error = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "conflict"),
    [
        (asyncpg.SerializationError("canceling statement due to conflict with recovery"), True),
        # Between two messages of a statement, the server closes the connection instead.
        (
            _closed_because_of(
                asyncpg.SerializationError("terminating connection due to conflict with recovery")
            ),
            True,
        ),
        (_closed_because_of(None), False),
        (_closed_because_of(asyncpg.AdminShutdownError("terminating connection")), False),
        (ConnectionResetError(), False),
        (TimeoutError(), False),
    ],
)
def test_a_conflict_is_recognized_by_its_cause(error: Exception, conflict: bool) -> None:
    assert is_conflict(_raised(error)) is conflict
