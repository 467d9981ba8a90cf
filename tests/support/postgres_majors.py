"""Which PostgreSQL versions a test runs on."""

from __future__ import annotations

import pytest

NEWEST = 18
OLDEST = 16

# A file that is worth running on every supported version says `pytestmark = every_postgres`.
# `make test` runs the newest; `make test-all` and the workflow run the oldest as well.
every_postgres = pytest.mark.parametrize(
    "major", [NEWEST, pytest.param(OLDEST, marks=pytest.mark.oldest_postgres)]
)

# A few files that are a smoke test of the oldest version in `make test`.
newest_and_oldest = pytest.mark.parametrize("major", [NEWEST, OLDEST])
