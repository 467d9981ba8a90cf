"""Which addresses are those of hosted transaction poolers."""

from __future__ import annotations

import pytest

from luma_memory.postgres.pooler import names_hosted_pooler
from luma_memory.settings import load_settings


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:secret@db.example.com:6543/postgres",
        "postgres://[::1]:6543/postgres",
        "postgresql://one.example.com:5432,two.example.com:6543/postgres",
        "postgresql://user@/postgres?host=db.example.com&port=6543",
        "postgresql://user@/postgres?host=a,b&port=5432,6543",
    ],
)
def test_the_port_is_found_wherever_an_address_may_have_it(dsn: str) -> None:
    assert names_hosted_pooler(dsn)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:6543@db.example.com:5432/postgres",
        "postgresql://user:6543@db.example.com/6543",
        "postgresql://db.example.com:65432/postgres",
        "postgresql://user@/postgres?host=db.example.com&port=5432",
        "postgresql:///postgres",
    ],
)
def test_the_same_digits_elsewhere_mean_nothing(dsn: str) -> None:
    assert not names_hosted_pooler(dsn)


@pytest.mark.parametrize("choice", ["auto", "transaction", "none"])
def test_the_setting_takes_each_choice(choice: str) -> None:
    assert load_settings(database_pooler=choice).database_pooler == choice
