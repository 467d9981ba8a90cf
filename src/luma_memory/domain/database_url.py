"""Validation of a PostgreSQL address at the start, before a driver fails on it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

_PORT_MAX: Final = 65_535
_KEYWORD: Final = re.compile(r"(?:^|\s)(?:host|hostaddr|dbname|user|port|service) ?=")
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
SYSTEM_CERTIFICATES: Final = "system"  # as sslrootcert: those the operating system trusts
# Parameters of libpq that the service's driver does not need: each tunes what it does anyway,
# and the connection is the same without it.
WITHOUT_EFFECT: Final = frozenset(
    {
        *("channel_binding", "client_encoding", "fallback_application_name", "gssdelegation"),
        *("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"),
        *("load_balance_hosts", "max_protocol_version", "min_protocol_version", "sslcertmode"),
        *("sslcompression", "sslsni", "tcp_user_timeout"),
    }
)
# Parameters that hosted databases, poolers and other drivers add to the addresses they show.
# PostgreSQL knows none of them.
OF_OTHER_CLIENTS: Final = frozenset(
    {
        *("binary_parameters", "connection_limit", "default_query_exec_mode", "pgbouncer"),
        *("pool_max_conns", "pool_mode", "pool_size", "pool_timeout", "prepareThreshold"),
        *("prepare_threshold", "prepared_statements", "prepared_statement_cache_size"),
        *("socket_timeout", "sslaccept", "statement_cache_size", "supa", "uselibpqcompat"),
        *("workaround",),
    }
)
# Values that match what the driver does anyway; it cannot do what other values request.
_HARMLESS: Final[Mapping[str, tuple[str, ...]]] = {
    "gssencmode": ("", "disable", "prefer"),
    "replication": ("", "false", "off", "no", "0"),
    "require_auth": ("",),
    "requirepeer": ("",),
    "sslcrldir": ("",),
    "hostaddr": ("",),
}
_SWITCHES: Final[Mapping[str, tuple[str, ...]]] = {
    "ssl": ("true", "1", "on", "yes", "false", "0", "off", "no"),
    "requiressl": ("0", "1"),
}
TAKEN_BY_VALUE: Final = (*_HARMLESS, *_SWITCHES, "connect_timeout")


def expectation(url: str) -> str | None:
    """What is expected of the address instead; None if it is valid.

    Quotes only names of known parameters of it: a broken password turns into something
    else in what follows.
    """
    if url.partition("://")[2].partition("/")[0].count("@") > 1:
        # Drivers end the password at the first @, and look for a host named by the rest of it.
        return (
            "a URL with one @, before the host: the sign @ of a user name or a password is"
            " written %40"
        )
    if not _is_readable(url):
        return _other_form(url) or _FORM
    given = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    for name, value in given:
        if (reason := _parameter_expectation(name, value)) is not None:
            return f"a URL {reason}"
    parameters = dict(given)
    if (
        parameters.get("sslrootcert") == SYSTEM_CERTIFICATES
        and parameters.get("sslmode", "verify-full") != "verify-full"
    ):
        return "a URL whose sslmode is verify-full, as sslrootcert=system needs it"
    return None


def _other_form(url: str) -> str | None:
    """What to write instead of an address in the form of another client."""
    scheme = url.partition("://")[0]
    if scheme.partition("+")[0] in ("postgres", "postgresql") and "+" in scheme:
        return "a URL that begins with postgresql://, without the name of a driver"
    if "://" not in url and _KEYWORD.search(url) is not None:
        return "a URL such as postgresql://user:password@host:5432/name, not host=… dbname=…"
    if scheme in ("jdbc:postgresql", "jdbc:postgres"):
        return "a URL that begins with postgresql://, without jdbc:"
    return None


def _parameter_expectation(name: str, value: str) -> str | None:
    if name in _CHOICES and value not in _CHOICES[name]:
        return f"whose {name} is one of {', '.join(_CHOICES[name])}"
    if name in _SWITCHES and value not in _SWITCHES[name]:
        return f"whose {name} is one of {', '.join(_SWITCHES[name])}"
    if name in _HARMLESS and value not in _HARMLESS[name]:
        return f"without {name}, which the service's driver does not support"
    if name == "schema":
        return (
            "without schema, which PostgreSQL does not know: options=-csearch_path%3Dname sets it"
        )
    if name == "connect_timeout" and not _is_seconds(value):
        return "whose connect_timeout is a whole number of seconds"
    is_system = name == "sslrootcert" and value == SYSTEM_CERTIFICATES
    if name in _FILES and not is_system and not os.access(value, os.R_OK):
        return f"whose {name} is a file that can be read"
    return None


def _is_seconds(value: str) -> bool:
    digits = value.strip().removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) < 10


def _is_readable(url: str) -> bool:
    """Whether it parses as an address; an unescaped / # or ? in a password breaks it."""
    try:
        parts = urlsplit(url)
        parse_qsl(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        return False
    if parts.scheme not in ("postgres", "postgresql") or "@" in parts.path:
        return False  # with an @ there, what looks like the port began a password
    hosts = parts.netloc.rpartition("@")[2]
    return not parts.fragment and all(_is_host(host) for host in hosts.split(","))


def _is_host(host: str) -> bool:
    """A name or an address, with or without a port; empty means the local socket."""
    name, separator, port = host.rpartition(":")
    if not separator or port.endswith("]"):
        name, port = host, ""
    labels = name.strip("[]").split(".")
    if any(len(label) > _HOST_LABEL_MAX for label in labels):
        return False
    return not port or (port.isascii() and port.isdecimal() and 0 < int(port) <= _PORT_MAX)
