"""No secret of a conversation is stored, and ordinary text is left alone."""

from __future__ import annotations

import pytest

from luma_memory.cli.redaction import MARK, redacted

LETTERS = "aB3dE5gH7jK9mN1pQ3sT5vW7"
PEM = "-----BEGIN {0}PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0B\n-----END {0}PRIVATE KEY-----"
SECRETS = [
    ("sk-" + LETTERS, f"My key is sk-{LETTERS}, use it."),
    ("sk-proj-" + LETTERS, f"OPENAI_API_KEY=sk-proj-{LETTERS}"),
    ("sk-ant-api03-" + LETTERS, f"export KEY='sk-ant-api03-{LETTERS}'"),
    ("lmk_" + LETTERS, f"Bearer lmk_{LETTERS}"),
    ("ghp_" + LETTERS, f"git clone with ghp_{LETTERS}"),
    ("github_pat_" + LETTERS, f"github_pat_{LETTERS}"),
    ("glpat-" + LETTERS, f"token glpat-{LETTERS}"),
    ("xoxb" + "-123456789012-" + LETTERS, "slack xoxb" + f"-123456789012-{LETTERS}"),
    ("AKIA" + "ABCDEFGHIJKLMNOP", "aws AKIA" + "ABCDEFGHIJKLMNOP"),
    ("wJalrXUtnFEMI", "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG"),
    ("AIza" + LETTERS + LETTERS, f"maps AIza{LETTERS}{LETTERS}"),
    ("npm_" + LETTERS, f"//registry/:_authToken=npm_{LETTERS}"),
    ("hf_" + LETTERS, f"login hf_{LETTERS}"),
    ("eyJhbGciOi", "cookie eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"),
    ("hunter2x", "The password is hunter2x."),
    ("hunter2x", "password: hunter2x"),
    ("hunter2x", 'DB_PASSWORD="hunter2x"'),
    ("hunter2x", '{"client_secret": "hunter2x"}'),
    ("hunter2x", "postgresql://ada:hunter2x@db.example/app"),
    ("hunter2x", "redis://:hunter2x@cache:6379"),
    ("hunter2x", "mysql --password=hunter2x -u root"),
    ("dXNlcjpwYXNz", "Authorization: Basic dXNlcjpwYXNz"),
    ("c2Vzc2lvbg", "Cookie: session=c2Vzc2lvbg; theme=dark"),
    ("MIIEvQ", PEM.format("")),
    ("MIIEvQ", PEM.format("RSA ")),
    ("MIIEvQ", PEM.format("OPENSSH ")),
    ("MIIEvQ", PEM.format("").partition("-----END")[0]),
    ("zQ8vK2", "AccountKey=zQ8vK2mN4pR6sT8uW0xY2z=="),
]
ORDINARY = [
    "The token budget is two thousand tokens.",
    "We discussed the secret santa list and the key decision.",
    "Passwords are hashed with argon2.",
    "See https://example.com/docs/api-keys for details.",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b fixes it",
    "The id is 01a22ac5-f425-7000-9961-43c834fc8486.",
    "def token(self) -> str: return self._value",
]


@pytest.mark.parametrize(("secret", "text"), SECRETS)
def test_a_secret_is_replaced(secret: str, text: str) -> None:
    shown = redacted(text)
    assert secret not in shown
    assert MARK in shown


@pytest.mark.parametrize(("secret", "text"), SECRETS)
def test_a_secret_inside_a_conversation_is_replaced(secret: str, text: str) -> None:
    shown = redacted(f"Please remember:\n{text}\nThanks, that is all.")
    assert secret not in shown
    assert shown.startswith("Please remember:\n")


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert redacted(text) == text


def test_a_long_text_is_redacted_quickly() -> None:
    assert redacted("password " * 20_000).count("password") == 20_000
    assert redacted("a" * 200_000) == "a" * 200_000
