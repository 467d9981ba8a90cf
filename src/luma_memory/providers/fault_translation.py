"""Errors of the provider libraries as errors of `domain.errors`.

| what happened                        | becomes                 | code                      |
|--------------------------------------|-------------------------|---------------------------|
| 401, or the code `invalid_api_key`   | ProviderRejected        | provider_bad_key          |
| 403                                  | ProviderRejected        | provider_forbidden        |
| 402; codes like `insufficient_quota` | ProviderRejected        | provider_no_money         |
| refusal, content filter              | ProviderRejected        | provider_refused          |
| context too long, 413                | ProviderRejected        | provider_input_too_long   |
| 404, `model_not_found`               | ProviderRejected        | provider_unknown_model    |
| any other 4xx                        | ProviderRejected        | provider_rejected         |
| 429                                  | RateLimited             | rate_limited              |
| 408, 409, 425, 5xx                   | ProviderUnavailable     | provider_unavailable      |
| reset, cut body, name, TLS           | ProviderUnavailable     | provider_unavailable      |
| no response within the timeout       | ProviderTimeout         | provider_timeout          |
| malformed JSON, wrong schema         | ProviderResponseInvalid | provider_response_invalid |
| null or cut-off content              | ProviderResponseInvalid | provider_response_invalid |
| redirect (by `http_client`)          | ProviderResponseInvalid | provider_redirected       |
| body over its cap (by `http_client`) | ProviderResponseInvalid | provider_answer_too_large |

No message repeats what was sent or received. The libraries' own messages do (the body of an error,
the model's output, sometimes the key), and a log prints the whole chain of causes, so
the cause attached here is a `ForeignError`: type and trace of the original, without its text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp
import httpx2

from luma_memory.concurrency.retry_after import retry_after_seconds
from luma_memory.domain.errors import (
    LumaMemoryError,
    ProviderRejected,
    ProviderResponseInvalid,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
)
from luma_memory.providers.http_fault import HttpFault, HttpFaultError

_BAD_KEY: Final = frozenset({"invalid_api_key", "incorrect_api_key", "authentication_error"})
_NO_MONEY: Final = frozenset(
    {
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_balance_exhausted",
        "exceeded_current_quota_error",
        "insufficient_balance",
        "insufficient_quota",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "payment_required",
        "project_spend_limit_exceeded",
    }
)
_REFUSED: Final = frozenset(
    {"content_filter", "content_policy_violation", "moderation_blocked", "refusal"}
)
_TOO_LONG: Final = frozenset(
    {
        "context_length_exceeded",
        "max_tokens_per_request",
        "request_too_large",
        "string_above_max_length",
    }
)
# Servers without a code for it (vLLM, gateways) say it in words.
_TOO_LONG_WORDS: Final = (
    "context length",
    "context window",
    "input is too long",
    "maximum input length",
    "maximum sequence length",
    "prompt is too long",
    "reduce the length",
)
_UNKNOWN_MODEL: Final = frozenset({"model_not_found"})
_PASSING_STATUSES: Final = frozenset({408, 409, 425})


class ForeignError(Exception):
    """Replaces, in a chain of causes, an error whose text must not be logged."""


def translated(error: Exception) -> LumaMemoryError:
    """The domain error for a foreign one; never raises. See the table above."""
    match error:
        # Timeouts are also connection errors, so they are tested first.
        case TimeoutError() | httpx2.TimeoutException():
            return not_in_time()
        case HttpFaultError():
            return error_of_response(error.fault)
        case aiohttp.ClientError() | httpx2.TransportError() | OSError():
            return unreachable()
        case _:
            return ProviderResponseInvalid("The provider's response does not match its schema.")


@contextmanager
def provider_faults(
    translate: Callable[[Exception], LumaMemoryError] = translated,
) -> Iterator[None]:
    """Raise a domain error, cause attached, for any error inside.

    Use it around library calls only. The `except` is broad because inside is third-party
    code parsing an untrusted response, which may fail in any way
    (`IndexError` on empty choices, `RecursionError` on deep JSON). Cancellation passes.
    """
    try:
        yield
    except LumaMemoryError:
        raise
    except Exception as error:
        raise translate(error) from textless(error)


def textless(error: BaseException) -> ForeignError:
    """The types along the chain of causes and the place of the first, without any message."""
    names: list[str] = []
    link: BaseException | None = error
    while link is not None and len(names) < 8:
        names.append(f"{type(link).__module__}.{type(link).__qualname__}")
        link = link.__cause__
    return ForeignError(" from ".join(names)).with_traceback(error.__traceback__)


def not_in_time() -> ProviderTimeout:
    return ProviderTimeout("The provider did not respond in time.")


def unreachable() -> ProviderUnavailable:
    return ProviderUnavailable("The connection to the provider failed.")


def refused() -> ProviderRejected:
    return ProviderRejected("The model refused the text.", code="provider_refused")


def error_of_response(fault: HttpFault) -> LumaMemoryError:
    """The domain error for an error response."""
    status = fault.status
    if status >= 500 or status in _PASSING_STATUSES:
        return ProviderUnavailable(f"The provider is unavailable (HTTP {status}).")
    if rejection := _rejection(fault):
        code, what = rejection
        return ProviderRejected(f"{what} (HTTP {status}).", code=code)
    if status == 429:
        wait = retry_after_seconds(fault.headers)
        return RateLimited(
            f"The provider asks to wait {wait:.0f} s (HTTP 429).", retry_after_seconds=wait
        )
    if status >= 400:
        return ProviderRejected(f"The provider rejected the request (HTTP {status}).")
    return ProviderResponseInvalid(f"The provider responded with HTTP {status}.")


def _rejection(fault: HttpFault) -> tuple[str, str] | None:
    """Code and sentence of a rejection; codes are more specific than the status."""
    match fault.status:
        case _ if fault.codes & _NO_MONEY or fault.status == 402:
            return "provider_no_money", "The account at the provider has no quota or money left"
        case _ if fault.codes & _BAD_KEY or fault.status == 401:
            return "provider_bad_key", "The provider does not accept the API key"
        case _ if fault.codes & _REFUSED:
            return "provider_refused", "The provider's content filter refused the text"
        case 400 | 413 | 422 if _is_too_long(fault):
            return "provider_input_too_long", "The text is too long for the model"
        case _ if fault.codes & _UNKNOWN_MODEL or fault.status == 404:
            return "provider_unknown_model", "The provider does not know the model or the address"
        case 403:
            return "provider_forbidden", "The API key may not do this"
        case _:
            return None


def _is_too_long(fault: HttpFault) -> bool:
    is_stated = fault.codes & _TOO_LONG or any(words in fault.message for words in _TOO_LONG_WORDS)
    return bool(is_stated) or fault.status == 413
