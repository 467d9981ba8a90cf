"""Every error the service raises on purpose.

LumaMemoryError           code: stable string, retryable: whether trying again later can help
├─ RequestError           the caller can fix it
│  ├─ Invalid             the request itself is wrong
│  ├─ Unauthenticated     the caller is not authenticated
│  ├─ NotFound            no such thing in this scope (also: it belongs to another scope)
│  ├─ Conflict            the request contradicts what is stored
│  ├─ PreconditionFailed  the stored version is not the one the request names
│  ├─ Forbidden           not with this key, or not in this configuration
│  │  └─ PermissionMissing   the credentials lack a permission
│  ├─ NotOffered          a feature of a compatible interface that this service lacks
│  └─ QuotaExceeded       a limit of this installation
├─ UnavailableError       try again later
│  ├─ StoreUnavailable    PostgreSQL does not respond
│  │  └─ StoreContended   a row this statement needs stayed locked by another
│  ├─ CacheUnavailable    Redis does not respond; never reported to a client
│  ├─ SearchTimeout       a search ran out of time
│  ├─ ProviderUnavailable a model provider is unavailable or returns 5xx
│  │  └─ ProviderPaused   known to be unavailable: no call was made
│  ├─ ProviderTimeout     a model provider did not respond in time
│  └─ RateLimited         a provider requests a pause; spends no attempt
├─ RejectedError          permanently refused upstream
│  ├─ ProviderRejected    bad key, no credit, refusal, input too long
│  └─ ProviderResponseInvalid   the response does not fit its schema
├─ SetupError             the operator can fix it: settings, data directory, schema
└─ InvariantError         our own bug; never handled inside

Only the entry points map these to HTTP statuses and exit codes.
"""

from __future__ import annotations

from collections.abc import Sequence

from luma_memory.domain.enrichment import ModelCall


class LumaMemoryError(Exception):
    """Root of the tree. `code` is stable and may be matched by clients; the message may change."""

    code: str = "internal"
    retryable: bool = False
    # Calls of models made before the error, which may have cost money.
    calls: Sequence[ModelCall] = ()
    # The id of the failed request, if there was one: joins the error to the service's log.
    request_id: str | None = None

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class RequestError(LumaMemoryError):
    """The caller can fix it."""

    code = "invalid_request"


class Invalid(RequestError):
    """The request itself is wrong. `field`: the invalid part, as a dotted path."""

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message, code=code)
        self.field = field


class Unauthenticated(RequestError):
    """The request has no credentials, or unknown ones."""

    code = "credentials_invalid"


class NotFound(RequestError):
    """Not found in this scope; ids of other scopes look like missing ones."""

    code = "not_found"


class Conflict(RequestError):
    """The request contradicts what is stored."""

    code = "conflict"


class PreconditionFailed(RequestError):
    """The stored version is not the one the request names."""

    code = "precondition_failed"


class Forbidden(RequestError):
    """Not allowed with this key, or in this configuration."""

    code = "forbidden"


class PermissionMissing(Forbidden):
    """The credentials lack a permission that others may have."""

    code = "permission_missing"

    def __init__(self, permission: str) -> None:
        super().__init__(
            f"This needs the permission `{permission}`, which these credentials do not have"
        )
        self.permission = permission


class NotOffered(RequestError):
    """A compatible interface has this feature, and this service does not."""

    code = "not_offered"


class QuotaExceeded(RequestError):
    """A limit of this installation is reached. A retry after that many seconds can succeed."""

    code = "quota_exceeded"

    def __init__(
        self, message: str, *, retry_after_seconds: float, code: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after_seconds = retry_after_seconds


class UnavailableError(LumaMemoryError):
    """A retry can succeed: after `retry_after_seconds`, if the source stated it."""

    code = "unavailable"
    retryable = True
    retry_after_seconds: float | None = None


class StoreUnavailable(UnavailableError):
    """PostgreSQL does not respond."""

    code = "database_unavailable"


class StoreContended(StoreUnavailable):
    """A needed row stayed locked by another transaction; other rows are not affected."""

    code = "database_busy"


class PartitionPaused(StoreUnavailable):
    """Writes to one partition stayed paused, as while it is moved; others are not affected."""

    code = "partition_paused"
    retry_after_seconds = 1.0


class PartitionMismatch(StoreUnavailable):
    """A write of a user reached a partition that does not have that user: nothing was written.

    This process knows an earlier state of the partitions.
    """

    code = "partitions_changed"


class CacheUnavailable(UnavailableError):
    """The cache does not respond in time. Costs only speed: no client ever sees it."""

    code = "cache_unavailable"


class SearchTimeout(UnavailableError):
    """The time limit of a search ended before the database responded."""

    code = "search_timeout"


class ProviderUnavailable(UnavailableError):
    """A model provider is unavailable, resets the connection or returns 5xx."""

    code = "provider_unavailable"


class ProviderPaused(ProviderUnavailable):
    """A model provider is known to be unavailable: no call is made before the given time."""

    code = "provider_paused"

    retry_after_seconds: float

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ProviderTimeout(UnavailableError):
    """A model provider did not respond in time."""

    code = "provider_timeout"


class RateLimited(UnavailableError):
    """The provider requests a pause. Defers work and spends no attempt."""

    code = "rate_limited"
    retry_after_seconds: float

    def __init__(
        self, message: str, *, retry_after_seconds: float, code: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after_seconds = retry_after_seconds


class RejectedError(LumaMemoryError):
    """Permanently refused by an upstream service: the same call would be refused again."""

    code = "rejected"


_OF_THE_ACCOUNT = frozenset(
    {"provider_bad_key", "provider_forbidden", "provider_no_money", "provider_unknown_model"}
)


class ProviderRejected(RejectedError):
    """Bad key, no credit, a refusal, or an input the model does not accept."""

    code = "provider_rejected"

    @property
    def concerns_account(self) -> bool:
        """Whether the key or the account was refused, so that every call would fail."""
        return self.code in _OF_THE_ACCOUNT


class ProviderResponseInvalid(RejectedError):
    """The provider's response does not match its schema. Another attempt may succeed."""

    code = "provider_response_invalid"
    retryable = True


class SetupError(LumaMemoryError):
    """The operator can fix it: a setting, the data directory, the schema. One clear sentence."""

    code = "setup"


class InvariantError(LumaMemoryError):
    """Our own bug: logged with its trace, never handled inside."""


def is_outage(error: Exception) -> bool:
    """Whether every caller is affected; a contended row affects one caller only."""
    return isinstance(error, UnavailableError) and not isinstance(error, StoreContended)
