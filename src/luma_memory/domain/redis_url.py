"""Validation of a Redis address at the start, before a client fails on it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

_SCHEMES: Final = ("redis", "rediss", "unix")
_FORM: Final = (
    "a URL that begins with redis://, rediss:// or unix://, in whose password the signs / # ? @ :"
    " are written %2F %23 %3F %40 %3A"
)
_DATABASE_MAX: Final = 65_535
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "protocol": ("2", "3"),
    "ssl_cert_reqs": ("none", "optional", "required"),
    "ssl_check_hostname": ("true", "false"),
}
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TEXTS: Final = ("client_name", "username", "password")
# Other options of clients (timeouts, retries, pools) are set by the service: requests wait on them.
_KNOWN: Final = ("db", *_TEXTS, *_CHOICES, *_FILES)


def expectation(url: str) -> str | None:
    """What is expected of the address instead; None if it is valid.

    Quotes only names of known parameters of it: a broken password turns into something
    else in what follows.
    """
    try:
        parts = urlsplit(url)
        named = parse_qsl(parts.query, strict_parsing=bool(parts.query), keep_blank_values=True)
        _ = parts.port  # raises for an invalid port
    except ValueError:
        return _FORM
    if parts.scheme not in _SCHEMES or parts.fragment or parts.port == 0:
        return _FORM
    if parts.scheme != "unix" and not _is_database(parts.path.removeprefix("/") or "0"):
        return f"a URL whose path is the number of a database, 0 to {_DATABASE_MAX}"
    return next((found for name, value in named if (found := _of(name, value, parts))), None)


def _of(name: str, value: str, parts: SplitResult) -> str | None:
    if name not in _KNOWN:
        return f"a URL with no other parameters than {', '.join(_KNOWN)}"
    if name.startswith("ssl_") and parts.scheme != "rediss":
        return f"a URL that begins with rediss://, or one without {name}"
    if name == "db" and not _is_database(value):
        return f"a URL whose db is a number, 0 to {_DATABASE_MAX}"
    if name in _CHOICES and value not in _CHOICES[name]:
        return f"a URL whose {name} is one of {', '.join(_CHOICES[name])}"
    if name in _FILES and not (os.path.isfile(value) and os.access(value, os.R_OK)):  # noqa: PTH113 - any text
        return f"a URL whose {name} is a file that can be read"
    return None


def _is_database(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= _DATABASE_MAX
