"""Redact anything that looks like a secret before a text leaves a coding agent's machine.

In doubt, a rule redacts: a lost token of a conversation costs little.
"""

from __future__ import annotations

import re
from typing import Final

MARK: Final = "[redacted]"
_NAMES: Final = (
    r"(?:(?:passw(?:or)?d|passphrase|passwd|pwd|secret|token|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|credentials?|auth[_-]?key|client[_-]?key|signing[_-]?key|connection[_-]?string)"
    r"[\w.-]{0,40})"
)
_PRIVATE_KEY: Final = (
    r"-----BEGIN [A-Z0-9 ]{0,20}PRIVATE KEY(?: BLOCK)?-----"
    r"[\s\S]*?(?:-----END [A-Z0-9 ]{0,20}PRIVATE KEY(?: BLOCK)?-----|\Z)"
)
_STATED: Final = (
    r"\b(?:password|passphrase|passcode|pin|token|api key|secret)\s+(?:is|was|:)\s+[\"'`]?"
    r"(?P<secret>[^\s\"'`]{4,})"
)
_HEADER: Final = (
    r"\b(?:Authorization|Proxy-Authorization|X-Api-Key|Cookie|Set-Cookie)[\"']?\s*:\s*"
    r"[\"']?(?P<secret>[^\r\n\"']{4,})"
)
# A whole match is replaced.
_WHOLE: Final = tuple(
    re.compile(pattern)
    for pattern in (
        _PRIVATE_KEY,
        r"\b(?:sk|pk|rk|whsec)[-_][A-Za-z0-9_-]{16,}",
        r"\blmk_[A-Za-z0-9_-]{16,}",
        r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}",
        r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bhooks\.slack\.com/services/\S+",
        r"\b(?:AKIA|ASIA|AIDA|AROA)[A-Z0-9]{16}\b",
        r"\bAIza[A-Za-z0-9_-]{30,}|\bya29\.[\w-]{20,}",
        r"\b(?:npm|pypi|hf|dop_v1|shpat|SG|rnd|figd|nvapi|gsk|xai|r8|tvly|pat)[-_.][A-Za-z0-9_.-]{20,}",
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
        r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{30,}",
        r"\bAGE-SECRET-KEY-1[A-Z0-9]{20,}",
    )
)
# Only the group `secret` is replaced.
_VALUES: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_NAMES}[\"']?\s*(?:[:=]|=>|:=)\s*[\"'`]?(?P<secret>[^\s\"'`,;]{{4,}})",
        _STATED,
        _HEADER,
        r"\bBearer\s+(?P<secret>[A-Za-z0-9._~+/=-]{12,})",
        r"\b[a-z][a-z0-9+.-]{0,20}://[^\s/:@]*:(?P<secret>[^\s/@]+)@",
        r"(?:--?(?:password|token|api-key|secret)|\s-p)[ =](?P<secret>[^\s]{4,})",
        r"\bAccountKey=(?P<secret>[A-Za-z0-9+/=]{16,})",
    )
)


def redacted(text: str) -> str:
    """The text with each part that looks like a secret replaced by a marker."""
    for pattern in _WHOLE:
        text = pattern.sub(MARK, text)
    for pattern in _VALUES:
        text = pattern.sub(_without_secret, text)
    return text


def _without_secret(match: re.Match[str]) -> str:
    start, end = match.span("secret")
    whole, offset = match.group(), match.start()
    return whole[: start - offset] + MARK + whole[end - offset :]
