"""Addresses for libpq in the driver's terms, and in those of PostgreSQL's own programs."""

from __future__ import annotations

import ssl

import pytest

from luma_memory.postgres.address import driver_address, libpq_address

NEON = (
    "postgresql://u:p%40ss@ep-cool-1-pooler.eu.example.com/db"
    "?sslmode=require&channel_binding=require"
)


def test_an_address_without_foreign_words_stays_as_it_is() -> None:
    for dsn in (
        "postgresql:///name?host=%2Frun%2Fserver&port=5433",
        "postgresql://u@one:1,two:2/db?statement_timeout=5",
        "postgresql://host",
    ):
        assert driver_address(dsn).dsn == libpq_address(dsn) == dsn


def test_what_changes_nothing_is_left_out() -> None:
    assert driver_address(NEON).dsn == NEON.removesuffix("&channel_binding=require")
    assert libpq_address(NEON) == NEON


def test_words_of_poolers_reach_no_server() -> None:
    dsn = "postgres://u@h:6543/db?pgbouncer=true&connection_limit=1&supa=base&pool_timeout=9"
    assert driver_address(dsn).dsn == libpq_address(dsn) == "postgres://u@h:6543/db"


@pytest.mark.parametrize(
    ("given", "seconds"), [("10", 10.0), ("1", 2.0), ("0", None), ("-1", None)]
)
def test_connect_timeout_bounds_the_connecting(given: str, seconds: float | None) -> None:
    address = driver_address(f"postgresql:///db?connect_timeout={given}&work_mem=4MB")
    assert address.connect_seconds == seconds
    assert address.dsn == "postgresql:///db?work_mem=4MB"


@pytest.mark.parametrize("word", ["ssl=true", "requiressl=1"])
def test_older_words_for_tls_require_it(word: str) -> None:
    assert driver_address(f"postgresql://h/db?{word}").dsn == "postgresql://h/db?sslmode=require"


def test_the_systems_certificates_verify_the_host() -> None:
    address = driver_address("postgresql://h/db?sslmode=verify-full&sslrootcert=system")
    assert address.dsn == "postgresql://h/db"
    assert address.options["ssl"].verify_mode is ssl.CERT_REQUIRED
    assert address.options["ssl"].check_hostname


def test_a_password_is_not_shown() -> None:
    assert "p%40ss" not in repr(driver_address(NEON))
