"""Which addresses a webhook may reach: those of the public Internet.

A receiver's URL comes from a client of the service, who must not reach through it what only the
service can: its own machine, the network it runs in, a cloud's metadata.
"""

from __future__ import annotations

import ipaddress
from typing import TypeAlias
from urllib.parse import urlsplit

from luma_memory.domain.errors import Invalid

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

URL_CHARACTERS_MAX = 2_000
# Not global by their registries, or addresses that embed another one, which a gateway would reach.
_REFUSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15"),
        # Unspecified and loopback, IPv4-compatible, IPv4-translated.
        *("::/96", "::ffff:0:0:0/96"),
        # NAT64 of either kind, Teredo and 6to4, site-local.
        *("64:ff9b::/96", "64:ff9b:1::/48", "2001::/23", "2002::/16", "fec0::/10"),
        # Discard-only, benchmarking and documentation, segment routing.
        *("100::/64", "2001:db8::/32", "3fff::/20", "5f00::/16"),
    )
)


def is_public(text: str) -> bool:
    """Whether an address of a socket lies in the public Internet. False for what is no address."""
    try:
        address: Address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return False
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address.version == net.version and address in net for net in _REFUSED)
    )


def check_url(url: str, *, allow_private: bool) -> None:
    """Raises Invalid (code webhook_url_invalid or webhook_url_not_allowed), before any name is
    resolved: what a name stands for is checked at each connection."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _invalid("it cannot be read") from None
    if any(ord(character) <= 32 or ord(character) == 127 for character in url):
        raise _invalid("it contains a space or a control character")
    if parts.scheme not in ("https", "http") or not host or port == 0:
        raise _invalid("it must start with https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise _invalid("it must not contain a user or a password")
    if parts.fragment:
        raise _invalid("it must not contain a fragment")
    if allow_private:
        return
    if parts.scheme != "https":
        raise _refused("it must start with https://")
    if _is_address(host) and not is_public(host):
        raise _refused("its address is not public")
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        raise _refused("its host is not public")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _invalid(why: str) -> Invalid:
    return Invalid(f"The URL is not valid: {why}", code="webhook_url_invalid", field="url")


def _refused(why: str) -> Invalid:
    return Invalid(f"The URL is not allowed: {why}", code="webhook_url_not_allowed", field="url")
