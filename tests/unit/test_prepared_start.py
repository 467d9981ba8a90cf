"""Processes that are started ahead of time, and addresses taken ahead of time."""

from __future__ import annotations

import os
import socket
import sys
import threading

import pytest

from luma_memory.bootstrap.http_server import Address
from luma_memory.bootstrap.prepared_start import (
    PREPARE_OPTION,
    is_prepared,
    receive_environment,
    sent_environment,
)
from luma_memory.domain.errors import SetupError


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> int:
    """The writing end of standard input."""
    read_end, write_end = os.pipe()
    monkeypatch.setattr("sys.stdin", os.fdopen(read_end))
    return write_end


def test_settings_come_as_one_line(pipe: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    long = "postgresql://ü@h/" + "d" * 100_000
    line = sent_environment({"DATABASE_URL": long, "MEMORY_PORT": "7"})
    assert line.count(b"\n") == 1
    # More than a pipe holds.
    sending = threading.Thread(target=os.write, args=(pipe, line))
    sending.start()
    try:
        assert receive_environment()
        assert os.environ["DATABASE_URL"] == long
        assert os.environ["MEMORY_PORT"] == "7"
    finally:
        sending.join()
        os.close(pipe)
        sys.stdin.close()
        os.environ.pop("DATABASE_URL", None)
        os.environ.pop("MEMORY_PORT", None)


def test_a_parent_that_ends_ends_the_wait(pipe: int) -> None:
    os.write(pipe, b'{"MEMORY_PORT": ')
    os.close(pipe)
    assert not receive_environment()
    sys.stdin.close()


def test_only_the_option_makes_it_wait() -> None:
    assert is_prepared(["-m", PREPARE_OPTION])
    assert not is_prepared(["-m"])


def test_an_address_refuses_connections_until_it_listens() -> None:
    """In the socket's queue, a client would wait for the whole start."""
    address = Address("127.0.0.1", 0)
    port = address.port
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
    with address.listen(), socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) == 0


def test_an_address_in_use_is_reported_before_anything_is_opened() -> None:
    first = Address("127.0.0.1", 0)
    with first.listen() as listening, pytest.raises(SetupError) as caught:
        Address("127.0.0.1", listening.getsockname()[1])
    assert caught.value.code == "address_unusable"
