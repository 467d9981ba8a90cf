"""What a PostgreSQL address may say: checked at the start, before a driver stumbles over it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

_PORT_MAX: Final = 65_535
_HOST_LABEL_MAX: Final = 63  # RFC 1035
_FORM: Final = (
    "a URL such as postgresql://user:password@host:5432/name, in whose password the"
    " signs / # ? @ : are written %2F %23 %3F %40 %3A"
)
_TLS_VERSIONS: Final = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "target_session_attrs": (
        *("any", "primary", "standby", "read-write", "read-only", "prefer-standby"),
    ),
}
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
# Of other drivers and of poolers: the server would be asked for a setting of that name.
_OF_OTHERS: Final = frozenset(
    {
        *("channel_binding", "connect_timeout", "connection_limit", "gssdelegation", "gssencmode"),
        *("hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"),
        *("load_balance_hosts", "max_protocol_version", "min_protocol_version", "pgbouncer"),
        *("pool_timeout", "replication", "require_auth", "requirepeer", "requiressl", "schema"),
        *("ssl", "sslcertmode", "sslcompression", "sslcrldir", "sslsni", "tcp_user_timeout"),
    }
)


def expectation(url: str) -> str | None:
    """What the address has to be, when it is not; None when a driver can read it.

    Quotes nothing of it but names of parameters that are known: a broken password makes something
    else of what follows.
    """
    if not _is_readable(url):
        return _FORM
    for name, value in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        if name in _OF_OTHERS:
            return f"a URL without {name}, which is for other drivers"
        if name in _CHOICES and value not in _CHOICES[name]:
            return f"a URL whose {name} is one of {', '.join(_CHOICES[name])}"
        if name in _FILES and not os.access(value, os.R_OK):
            return f"a URL whose {name} is a file that can be read"
    return None


def _is_readable(url: str) -> bool:
    """Whether it has the form of one; a bare / # or ? in a password makes something else of it."""
    try:
        parts = urlsplit(url)
        parse_qsl(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        return False
    if parts.scheme not in ("postgres", "postgresql"):
        return False
    hosts = parts.netloc.rpartition("@")[2]
    return not parts.fragment and all(_is_host(host) for host in hosts.split(","))


def _is_host(host: str) -> bool:
    """A name or an address, with or without a port; nothing stands for the local socket."""
    name, separator, port = host.rpartition(":")
    if not separator or port.endswith("]"):
        name, port = host, ""
    labels = name.strip("[]").split(".")
    if any(len(label) > _HOST_LABEL_MAX for label in labels):
        return False
    return not port or (port.isascii() and port.isdecimal() and 0 < int(port) <= _PORT_MAX)
