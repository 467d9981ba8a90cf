"""The service's address, credentials, timeouts and connection limits."""

from __future__ import annotations

from typing import Final

import httpx2
from pydantic import SecretStr

from luma_memory.client.retries import NEVER_SENT
from luma_memory.domain.errors import LumaMemoryError, SetupError, UnavailableError
from luma_memory.domain.loopback import is_loopback

DEFAULT_URL: Final = "http://127.0.0.1:8080"
CONNECT_SECONDS: Final = 5.0
# Shorter than the idle timeout of common load balancers, so that a pooled connection is not reused
# while the other side closes it.
KEEP_ALIVE_SECONDS: Final = 15.0


class Address:
    """A service's address: `url`, and `shown` for messages, without a password.

    Raises SetupError for an invalid address.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = httpx2.URL(url.strip().rstrip("/"))
        except (httpx2.InvalidURL, TypeError) as error:
            raise SetupError(
                "The service's address is not a valid URL", code="wrong_url"
            ) from error
        if parts.scheme not in ("http", "https") or not parts.host:
            raise SetupError(
                "The service's address must start with http:// or https:// and a host",
                code="wrong_url",
            )
        if parts.userinfo or parts.query or parts.fragment:
            raise SetupError(
                "The service's address must have no user, query or fragment; pass a key as api_key",
                code="wrong_url",
            )
        self.url = self.shown = str(parts)
        # A proxy from the environment cannot reach this machine's loopback address.
        self.trusts_environment = not is_loopback(parts.host)

    def unreachable(self, error: httpx2.TransportError) -> LumaMemoryError:
        """The error for a request without a response."""
        name = type(error).__name__
        match error:
            case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.PoolTimeout():
                return UnavailableError(f"Cannot connect to {self.shown} ({name})", code=NEVER_SENT)
            case httpx2.TimeoutException():
                return UnavailableError(
                    f"The service at {self.shown} did not respond in time ({name})",
                    code="service_timeout",
                )
            case _:
                return UnavailableError(
                    f"The connection to {self.shown} was lost ({name})", code="connection_lost"
                )


def credentials(api_key: str | SecretStr | None) -> dict[str, str]:
    """The header with the key. Raises SetupError (code wrong_key) without the key's text."""
    if api_key is None:
        return {}
    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    if not (key.isascii() and key.isprintable() and key) or " " in key:
        raise SetupError(
            "The API key contains characters that are not allowed in a header", code="wrong_key"
        )
    return {"Authorization": f"Bearer {key}"}


def timeouts(seconds: float) -> httpx2.Timeout:
    """The timeout of each wait for bytes, and a shorter one for connecting."""
    return httpx2.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))


def limits(connections_max: int) -> httpx2.Limits:
    return httpx2.Limits(
        max_connections=connections_max,
        max_keepalive_connections=connections_max,
        keepalive_expiry=KEEP_ALIVE_SECONDS,
    )
