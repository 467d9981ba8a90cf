"""Addresses and URLs that a webhook may have, and those it may not."""

from __future__ import annotations

import pytest

from luma_memory.domain.errors import Invalid
from luma_memory.providers.webhooks.addresses import check_url, is_public

PUBLIC = ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::1"]
NOT_PUBLIC = [
    # This machine, private networks, link-local with a cloud's metadata, CGNAT.
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.192"),
    # Benchmarks, documentation, multicast, reserved, broadcast, 6to4 relays.
    *("198.18.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "192.88.99.1"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1"),
    # IPv4 inside of IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo.
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "::ffff:0:7f00:1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001::1"),
    *("100::1", "2001:db8::1", "3fff::1", "5f00::1"),
    *("", "example.com", "1.1.1", "0x7f.1", "2130706433", "/run/socket"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_public(address)


def test_a_mapped_address_is_what_it_maps() -> None:
    assert is_public("::ffff:1.1.1.1")


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_others_are_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "url",
    ["https://example.com", "https://example.com:8443/a/b?c=d", "https://[2606:4700::1111]/"],
)
def test_urls_of_the_public_internet_are_allowed(url: str) -> None:
    check_url(url, allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://example.com/",
            "https://localhost/",
            "https://a.localhost/",
            "https://db.internal",
        ),
        *(
            "https://printer.local/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://10.0.0.1:443/",
        ),
        *("https://[::ffff:127.0.0.1]/", "https://[64:ff9b::7f00:1]/", "https://169.254.169.254/"),
    ],
)
def test_urls_of_private_places_are_refused_unless_allowed(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_url(url, allow_private=False)
    assert (refused.value.code, refused.value.field) == ("webhook_url_not_allowed", "url")
    check_url(url, allow_private=True)


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "example.com",
            "//example.com",
            "ftp://example.com",
            "file:///etc/passwd",
            "https://",
        ),
        *("https://user@example.com/", "https://:secret@example.com/", "https://example.com/#a"),
        *("https://example.com:0/", "https://example.com:99999/", "https://example.com:x/"),
        *(
            "https://exa mple.com/",
            "https://example.com/\r\nHost: x",
            "https://[::1",
            "https://a/\t",
        ),
    ],
)
def test_what_is_no_url_is_refused_always(url: str, allow_private: bool) -> None:
    with pytest.raises(Invalid) as refused:
        check_url(url, allow_private=allow_private)
    assert refused.value.code == "webhook_url_invalid"
