"""What operators may set, the errors for invalid values, and what is kept out of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from luma_memory.domain.errors import SetupError
from luma_memory.settings import (
    Settings,
    load_settings,
    unknown_variables,
    variable_name,
    variable_names,
)

SECRET = "not-for-anybody-1234567890"
WRONG_VALUES = [
    ("MEMORY_RETRY_ATTEMPTS", "many"),
    ("MEMORY_RETRY_ATTEMPTS", "0"),
    ("MEMORY_RETRY_BACKOFF_MS", "-1"),
    ("MEMORY_WORKER_POLL_INTERVAL_MS", "0"),
    ("MEMORY_WORKER_MAX_CONCURRENT_JOBS", "1e400"),
    ("MEMORY_WORKER_JOB_TIMEOUT_MS", "1.5"),
    ("MEMORY_SYSTEM_ENABLED", "perhaps"),
    ("MEMORY_PORT", "65536"),
    ("MEMORY_LOG_LEVEL", "loud"),
    ("MEMORY_LOG_FORMAT", "xml"),
    ("DATABASE_URL", "mysql://localhost/x"),
    ("DATABASE_URL", "localhost:5432"),
    ("DATABASE_URL", "postgresql://u:x@[::1/x"),
    ("DATABASE_URL", "postgresql://u:x@host:port/x"),
    ("DATABASE_URL", "postgresql://u:x@host:99999/x"),
    ("DATABASE_URL", f"postgresql://u:x@{'h' * 64}/x"),
    ("OPENAI_BASE_URL", "http://[::1/v1"),
    ("REDIS_URL", "redis://[::1/0"),
    ("OPENAI_BASE_URL", "ftp://models.example"),
    ("OPENAI_BASE_URL", "models.example/v1"),
]


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MEMORY_") or name in variable_names():
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variable", "default"),
    [
        ("DATABASE_URL", None),
        ("OPENAI_API_KEY", None),
        ("OPENAI_BASE_URL", None),
        ("MEMORY_SYSTEM_ENABLED", True),
        ("MEMORY_ENRICHMENT_ENABLED", True),
        ("MEMORY_EMBEDDING_ENABLED", True),
        ("MEMORY_FAIL_FAST", False),
        ("MEMORY_RETRY_ATTEMPTS", 3),
        ("MEMORY_RETRY_BACKOFF_MS", 1000),
        ("MEMORY_WORKER_ENABLED", True),
        ("MEMORY_WORKER_POLL_INTERVAL_MS", 1000),
        ("MEMORY_WORKER_MAX_CONCURRENT_JOBS", 5),
        ("MEMORY_WORKER_JOB_TIMEOUT_MS", 30000),
        ("MEMORY_WORKER_HEALTH_CHECK_INTERVAL_MS", 60000),
    ],
)
def test_names_and_defaults_are_the_promised_ones(variable: str, default: object) -> None:
    values = {variable_name(field): value for field, value in load_settings()}
    assert values[variable] == default


def test_the_environment_sets_and_an_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_PORT", "9000")
    monkeypatch.setenv("MEMORY_DATA_DIR", "/srv/a place")
    assert load_settings().port == 9000
    assert load_settings(port=None).port == 9000
    assert load_settings(port=9001).port == 9001
    assert load_settings().data_dir == Path("/srv/a place")


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variable_names():
        monkeypatch.setenv(name, "")
    assert load_settings() == Settings()
    assert not load_settings().has_model_provider


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_BASE_URL"])
def test_a_key_or_an_address_makes_a_model_provider(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:1/v1")
    assert load_settings().has_model_provider


@pytest.mark.parametrize(("variable", "value"), WRONG_VALUES)
def test_a_wrong_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SetupError) as caught:
        load_settings()
    assert caught.value.code == "wrong_setting"
    assert f"{variable} is wrong: it must be" in str(caught.value)


@pytest.mark.parametrize("value", ["enabled", "2", "ja", "TRUE1"])
def test_a_wrong_switch_names_the_allowed_values(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MEMORY_RELATIONS_ENABLED", value)
    with pytest.raises(SetupError) as caught:
        load_settings()
    assert str(caught.value) == "MEMORY_RELATIONS_ENABLED is wrong: it must be true or false."


@pytest.mark.parametrize("value", ["many", "1.5", ""])
def test_a_wrong_number_names_what_it_must_be(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MEMORY_PORT", value or "9" * 5_000)
    with pytest.raises(SetupError) as caught:
        load_settings()
    assert str(caught.value) == "MEMORY_PORT is wrong: it must be a whole number."


@pytest.mark.parametrize("variable", sorted({name for name, _ in WRONG_VALUES}))
def test_a_secret_in_the_wrong_place_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, SECRET)
    with pytest.raises(SetupError) as caught:
        load_settings()
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_all_invalid_values_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_PORT", "none")
    monkeypatch.setenv("DATABASE_URL", "sqlite:///x")
    with pytest.raises(SetupError, match=r"(?s)DATABASE_URL.*MEMORY_PORT"):
        load_settings()


def test_secrets_have_a_redacted_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:{SECRET}@localhost/x")
    settings = load_settings()
    assert (
        SECRET not in f"{settings!r}{settings}{settings.model_dump()}{settings.model_dump_json()}"
    )


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1  # type: ignore[misc]


def test_an_unknown_variable_comes_with_the_nearest_known_one() -> None:
    assert unknown_variables(
        {
            "MEMORY_RETRY_ATEMPTS": "3",
            "MEMORY_SOMETHING_ELSE_ALTOGETHER": "1",
            "MEMORY_PRESSURE_WATCH": "/sys/fs/cgroup",
            "MEMORY_PORT": "1",
            "PATH": "/bin",
        }
    ) == {"MEMORY_RETRY_ATEMPTS": "MEMORY_RETRY_ATTEMPTS", "MEMORY_SOMETHING_ELSE_ALTOGETHER": None}


@pytest.mark.parametrize("sign", ["/", "#", "?"])
def test_a_password_that_takes_the_address_apart_is_refused_and_not_shown(
    sign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:s3cr{sign}et@host/db")
    with pytest.raises(SetupError, match=r"DATABASE_URL.*%2F") as raised:
        load_settings()
    assert "s3cr" not in str(raised.value)
    assert raised.value.__cause__ is None or "s3cr" not in str(raised.value.__cause__)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("postgresql+asyncpg://u:secret@h/db", "without the name of a driver"),
        ("postgres+psycopg2://u:secret@h/db", "without the name of a driver"),
        ("host=h dbname=db user=u password=secret", "postgresql://user.*not host="),
        ("dbname=db", "postgresql://user.*not host="),
        ("jdbc:postgresql://h/db?user=u&password=secret", "without jdbc:"),
    ],
)
def test_a_database_address_in_another_clients_form_names_the_remedy(url: str, remedy: str) -> None:
    with pytest.raises(SetupError, match=f"DATABASE_URL.*{remedy}") as raised:
        load_settings(database_url=url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://u:{SECRET}@rest@host/db",
        f"postgresql://u@example.com:{SECRET}@host/db",
        f"postgresql://u:@{SECRET}@host/db?sslmode=require",
    ],
)
def test_an_unescaped_at_sign_is_named_and_the_password_not_shown(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", address)
    with pytest.raises(SetupError, match=r"DATABASE_URL.*one @.*%40") as raised:
        load_settings()
    assert SECRET not in str(raised.value)


def test_a_password_that_begins_like_a_port_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:1/{SECRET}@host/db")
    with pytest.raises(SetupError, match=r"DATABASE_URL.*%2F") as raised:
        load_settings()
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:p%40ss@host/db?sslmode=require&channel_binding=require",
        "postgres://u@host.pooler.example.com:6543/db?pgbouncer=true&connection_limit=1",
        "postgresql://host/db?connect_timeout=10&keepalives=1&application_name=a",
        "postgresql://host/db?sslmode=verify-full&sslrootcert=system",
        "postgresql://host/db?options=-c%20search_path%3D%22My-App%22&target_session_attrs=any",
        "postgresql:///name?host=/var/run/postgresql&port=5433",
        "postgres://u:s3cr%2Fet@[::1]:5432/db?sslmode=require",
        "postgresql://u@one:1,two:2/db",
        "postgresql://localhost",
    ],
)
def test_addresses_the_driver_reads_are_taken(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", address)
    assert load_settings().database_url is not None


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("sslmode=bogus", "sslmode is one of disable, allow"),
        ("sslmode=verify-full&sslrootcert=/nowhere/root.crt", "sslrootcert is a file"),
        ("sslkey=", "sslkey is a file"),
        ("target_session_attrs=any&ssl_min_protocol_version=SSLv3", "one of TLSv1"),
        ("sslmode=require&sslrootcert=system", "sslmode is verify-full"),
        ("ssl=perhaps", "ssl is one of true"),
        ("connect_timeout=soon", "connect_timeout is a whole number"),
        ("replication=database", "without replication"),
        ("require_auth=none", "without require_auth"),
        ("gssencmode=require", "without gssencmode"),
        ("schema=memory", "options=-csearch_path"),
    ],
)
def test_parameters_of_an_address_are_checked_at_the_start(
    parameters: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:{SECRET}@host/db?{parameters}")
    with pytest.raises(SetupError, match=f"DATABASE_URL is wrong: it must be .*{words}") as raised:
        load_settings()
    assert SECRET not in str(raised.value)
