"""Convert libpq addresses for the driver and for PostgreSQL's own programs.

Hosted databases offer addresses for libpq, with parameters of their poolers and of other drivers
as well. The driver would pass unknown parameters to the server as settings, and the
server would refuse the connection.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from luma_memory.domain.database_url import (
    OF_OTHER_CLIENTS,
    SYSTEM_CERTIFICATES,
    TAKEN_BY_VALUE,
    WITHOUT_EFFECT,
)

# libpq: shorter timeouts than this are not used.
_CONNECT_SECONDS_MIN: Final = 2.0
_TRUE: Final = ("true", "1", "on", "yes")


@dataclass(frozen=True, slots=True)
class DriverAddress:
    """An address in the driver's terms."""

    dsn: str = field(repr=False)
    connect_seconds: float | None  # None: not in the address
    # Values that the driver takes only as arguments, not in the address.
    options: dict[str, Any] = field(default_factory=dict)


def driver_address(dsn: str) -> DriverAddress:
    """Parameters of libpq translated; those without an effect here are left out."""
    given = dict(parse_qsl(urlsplit(dsn).query, keep_blank_values=True))
    left_out = WITHOUT_EFFECT | OF_OTHER_CLIENTS | set(TAKEN_BY_VALUE)
    parameters = {name: value for name, value in given.items() if name not in left_out}
    if given.get("ssl") in _TRUE or given.get("requiressl") == "1":
        parameters.setdefault("sslmode", "require")
    root = given.get("sslrootcert", os.environ.get("PGSSLROOTCERT"))
    options: dict[str, Any] = {}
    if root == SYSTEM_CERTIFICATES and parameters.get("sslmode") != "disable":
        parameters.pop("sslrootcert", None)
        parameters.pop("sslmode", None)
        options["ssl"] = _system_context(parameters)
    return DriverAddress(
        _with_parameters(dsn, parameters), _connect_seconds(given.get("connect_timeout")), options
    )


def libpq_address(dsn: str) -> str:
    """The address for PostgreSQL's own programs, which accept libpq's parameters and no others."""
    given = parse_qsl(urlsplit(dsn).query, keep_blank_values=True)
    return _with_parameters(
        dsn, {name: value for name, value in given if name not in OF_OTHER_CLIENTS}
    )


def _with_parameters(dsn: str, parameters: dict[str, str]) -> str:
    if dict(parse_qsl(urlsplit(dsn).query, keep_blank_values=True)) == parameters:
        return dsn
    # Not `urlunsplit`: it drops the // of an address without a host.
    head, _, _ = dsn.partition("?")
    query = urlencode(parameters, quote_via=quote)
    return f"{head}?{query}" if query else head


def _connect_seconds(value: str | None) -> float | None:
    """For libpq, 0 or less means no limit; here the service's own limit applies then."""
    seconds = int(value) if value else 0
    return max(float(seconds), _CONNECT_SECONDS_MIN) if seconds > 0 else None


def _system_context(parameters: dict[str, str]) -> ssl.SSLContext:
    """Trust the operating system's certificates for the host of the address."""
    context = ssl.create_default_context()
    certificate = parameters.pop("sslcert", None)
    key, password = parameters.pop("sslkey", None), parameters.pop("sslpassword", "")
    if certificate:
        context.load_cert_chain(certificate, keyfile=key, password=lambda: password)
    if (version := parameters.pop("ssl_min_protocol_version", None)) is not None:
        context.minimum_version = ssl.TLSVersion[version.replace(".", "_")]
    if (version := parameters.pop("ssl_max_protocol_version", None)) is not None:
        context.maximum_version = ssl.TLSVersion[version.replace(".", "_")]
    return context
