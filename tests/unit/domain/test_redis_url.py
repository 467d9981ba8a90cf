"""Addresses of Redis: refused at the start, or readable for the client that gets them."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from luma_memory.domain.redis_url import expectation

SECRET = "s3cr3t"
FILE = __file__


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://cache.example",
        f"redis://:{SECRET}@cache.example:6380/3",
        f"redis://user:p%2F%40@[::1]:6379?db=15&protocol=3&client_name={SECRET}",
        "rediss://cache.example?ssl_cert_reqs=none&ssl_check_hostname=false",
        f"rediss://cache.example/0?ssl_ca_certs={FILE}",
        f"unix:///run/redis.sock?db=2&password={SECRET}",
    ],
)
async def test_what_a_client_can_read(url: str) -> None:
    assert expectation(url) is None
    client = Redis.from_url(url)
    # Takes every parameter.
    client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    await client.aclose()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (SECRET, "begins with redis://"),
        (f"http://:{SECRET}@cache", "begins with redis://"),
        (f"redis://:{SECRET}@cache:99999", "begins with redis://"),
        (f"redis://:{SECRET}@cache:port", "begins with redis://"),
        (f"redis://:{SECRET}@cache:0", "begins with redis://"),
        (f"redis://:{SECRET}@[::1", "begins with redis://"),
        (f"redis://:a#{SECRET}@cache", "begins with redis://"),
        (f"redis://:a?{SECRET}@cache", "begins with redis://"),
        (f"redis://:a/{SECRET}@cache", "begins with redis://"),
        (f"redis://cache/{SECRET}", "number of a database"),
        ("redis://cache/-1", "number of a database"),
        ("redis://cache/999999999999999999999", "number of a database"),
        ("redis://cache?db=x", "db is a number"),
        (f"redis://cache?{SECRET}=1", "no other parameters"),
        ("redis://cache?socket_timeout=abc", "no other parameters"),
        ("redis://cache?connection_class=os.system", "no other parameters"),
        ("redis://cache?protocol=9", "protocol is one of 2, 3"),
        ("rediss://cache?ssl_cert_reqs=bogus", "ssl_cert_reqs is one of"),
        ("redis://cache?ssl_cert_reqs=none", "begins with rediss://"),
        (f"rediss://cache?ssl_ca_certs=/none/{SECRET}", "a file that can be read"),
        ("rediss://cache?ssl_ca_certs=/", "a file that can be read"),
    ],
)
def test_what_none_can_read_is_named_without_its_secret(url: str, expected: str) -> None:
    message = expectation(url)
    assert message is not None
    assert expected in message
    assert SECRET not in message
