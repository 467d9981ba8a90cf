"""Ports that tests choose for their servers."""

from __future__ import annotations

from pathlib import Path

from tests.support.redis_server import free_port


def test_no_chosen_port_is_given_to_another_connection() -> None:
    """It would be in use when the test's server starts, once in many runs."""
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(free_port() < first_given for _ in range(50))
