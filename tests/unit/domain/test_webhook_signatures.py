"""Signatures by the Standard Webhooks specification."""

from __future__ import annotations

import base64

import pytest

from luma_memory.client import verify_webhook
from luma_memory.domain.errors import Invalid
from luma_memory.domain.webhook_signatures import check_signature, secret_text, signed_headers

KEY = bytes(range(32))
BODY = b'{"type":"block.active","timestamp":"2026-03-03T10:00:00Z","data":{"user_id":"ada"}}'
NOW = 1_772_532_000


def headers(*keys: bytes, timestamp: int = NOW) -> dict[str, str]:
    return signed_headers(keys or [KEY], message_id="evt_1", timestamp=timestamp, body=BODY)


def test_the_specifications_own_example() -> None:
    # As the reference implementations test themselves; a secret of nothing, in two parts.
    secret = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    example = signed_headers(
        [base64.b64decode(secret.removeprefix("whsec_"))],
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert example == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_signed_request_is_verified() -> None:
    event = verify_webhook(BODY, headers(), secret_text(KEY), now=NOW)
    assert (event.id, event.type, event.data) == ("evt_1", "block.active", {"user_id": "ada"})


def test_header_names_have_any_case_and_the_body_may_be_text() -> None:
    upper = {name.upper(): value for name, value in headers().items()}
    assert verify_webhook(BODY.decode(), upper, secret_text(KEY), now=NOW).id == "evt_1"


@pytest.mark.parametrize("valid", [KEY, bytes(32)])
def test_one_of_several_signatures_is_enough(valid: bytes) -> None:
    check_signature(BODY, headers(KEY, bytes(32)), secret_text(valid), now=NOW)


@pytest.mark.parametrize(
    ("body", "changes", "secret", "now"),
    [
        (BODY + b" ", {}, secret_text(KEY), NOW),
        (BODY, {"webhook-id": "evt_2"}, secret_text(KEY), NOW),
        (BODY, {"webhook-timestamp": str(NOW + 1)}, secret_text(KEY), NOW),
        (BODY, {"webhook-timestamp": "soon"}, secret_text(KEY), NOW),
        (BODY, {"webhook-signature": "v1,"}, secret_text(KEY), NOW),
        (BODY, {"webhook-signature": "v2,x v1a,ü"}, secret_text(KEY), NOW),
        (BODY, {}, secret_text(bytes(32)), NOW),
        (BODY, {}, "whsec_???", NOW),
        (BODY, {}, secret_text(KEY), NOW + 301),
        (BODY, {}, secret_text(KEY), NOW - 301),
    ],
)
def test_anything_else_is_refused(
    body: bytes, changes: dict[str, str], secret: str, now: int
) -> None:
    with pytest.raises(Invalid) as refused:
        verify_webhook(body, {**headers(), **changes}, secret, now=now)
    assert refused.value.code == "webhook_signature_invalid"


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_named(name: str) -> None:
    given = headers()
    del given[name]
    with pytest.raises(Invalid, match=name):
        check_signature(BODY, given, secret_text(KEY), now=NOW)


def test_a_signed_body_that_is_no_event_is_refused() -> None:
    signed = signed_headers([KEY], message_id="evt_1", timestamp=NOW, body=b"[]")
    with pytest.raises(Invalid) as refused:
        verify_webhook(b"[]", signed, secret_text(KEY), now=NOW)
    assert refused.value.code == "webhook_body_invalid"
