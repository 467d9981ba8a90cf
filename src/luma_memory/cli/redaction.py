"""Redact anything that looks like a secret before a text leaves a coding agent's machine.

Three kinds of rules: formats of keys and tokens, which are secret wherever they occur; places where
a secret stands (an address with a password, a header, an option); and names (`password`, `API_KEY`)
with a value, where the value decides. In doubt a value is redacted, because a lost word of a
conversation costs little; a value that is a type, a call, a reference or a usual word of a sentence
is not one.
"""

from __future__ import annotations

import re
from typing import Final

from luma_memory.cli.named_secrets import named_secret_spans

MARK: Final = "[redacted]"
# Read beyond what is kept: longer than any secret but a private key, which may lack its end.
_CONTEXT_CHARACTERS: Final = 4_000
_BEGIN: Final = r"-{4,5} ?BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)? ?-{4,5}"
_END: Final = r"-{4,5} ?END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)? ?-{4,5}"
# Not in the middle of a word; a format with a digit or a capital, as no phrase with hyphens has.
_START: Final = r"(?<![A-Za-z0-9])"
_RANDOM: Final = r"(?=[A-Za-z_-]{0,60}[0-9A-Z])"
# A whole match is replaced. Bounds of repetitions keep every text fast.
_WHOLE: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?i:{_BEGIN})[\s\S]*?(?:(?i:{_END})|\Z)",
        r"\bPrivate-Lines: \d+\s[\s\S]*?(?:Private-MAC: \S{1,200}|\Z)",
        rf"{_START}(?:sk|pk|rk)-{_RANDOM}[A-Za-z0-9_-]{{16,}}",
        rf"{_START}(?:(?:sk|pk|rk)_(?:live|test|prod)_\w{{10,}}|sk_[A-Za-z0-9]{{24,}}|whsec_\w{{16,}})",
        rf"{_START}lmk_[A-Za-z0-9_-]{{16,}}",
        rf"{_START}(?:gh[pousr]_[A-Za-z0-9]{{20,}}|github_pat_\w{{20,}}|gl[a-z]{{2,6}}-[\w-]{{16,}})",
        rf"{_START}(?:xox[a-z]|xapp)[.-][A-Za-z0-9.-]{{10,}}",
        r"\bhooks\.slack\.com/services/\S{8,}|\bdiscord(?:app)?\.com/api/webhooks/\S{8,}",
        rf"{_START}(?:AKIA|ASIA|AIDA|AROA)[A-Z0-9]{{16}}\b",
        rf"{_START}(?:AIza[\w-]{{30,}}|ya29\.[\w-]{{20,}}|GOCSPX-[\w-]{{20,}}|1//0[\w-]{{20,}})",
        (
            rf"{_START}(?:npm|pypi|hf|hvs|hvb|sntrys|do[opr]_v1|shp[a-z]{{2}}|SG|rnd|figd|nvapi|gsk|xai"
            r"|r8|tvly|pat|ntn|lin_api|dckr_pat|nfp|phc|sbp|glsa|flyv1)"
            rf"[-_.]{_RANDOM}(?=[A-Za-z_.-]{{0,60}}\d)[A-Za-z0-9_.-]{{20,}}"
        ),
        rf"{_START}(?:pat[A-Za-z0-9]{{14}}\.[0-9a-f]{{64}}|ATATT[A-Za-z0-9_=-]{{40,}})",
        rf"{_START}(?:SK[0-9a-f]{{32}}|(?:key-|dapi)[0-9a-f]{{32}})\b",
        rf"{_START}secret_[A-Za-z0-9]{{40,}}",
        rf"{_START}eyJ[A-Za-z0-9_-]{{8,9999}}\.[A-Za-z0-9_-]{{0,9999}}\.[A-Za-z0-9_.-]*",
        rf"{_START}[0-9]{{8,10}}:AA[A-Za-z0-9_-]{{30,}}",
        rf"{_START}[MNO][A-Za-z0-9_-]{{22,28}}\.[A-Za-z0-9_-]{{6}}\.[A-Za-z0-9_-]{{27,45}}",
        rf"{_START}AGE-SECRET-KEY-1[A-Z0-9]{{20,}}",
    )
)
# Only the group `secret` is replaced, in texts with one of the words before it, in small letters.
# Compiled when needed: a hook has a second with the start of its interpreter.
_PLACES: Final = tuple(
    (words.split(), pattern)
    for words, pattern in (
        # A header; f"…" and escaped quotation marks as in code.
        (
            "authorization",
            (
                r"\b(?:Proxy-)?Authorization\\?[\"']?\]?\s{0,9}[:=,]\s{0,9}[a-z]?\\?[\"'`]?"
                r"(?P<secret>(?:Basic|Bearer|Token|Digest|ApiKey|Bot|Negotiate|AWS4-\S{1,20}|Key) "
                r"[^\r\n\"'`\\]{4,}|(?=[^\s\d]{0,60}\d)[^\s\"'`\\]{8,})"
            ),
        ),
        (
            "cookie",
            (
                r"\b(?:Set-)?Cookie\\?[\"']?\s{0,9}:\s{0,9}\\?[\"']?"
                r"(?P<secret>[\w.-]{1,99}=[^\r\n\"'\\]{4,})"
            ),
        ),
        ("bearer", r"\bBearer\s{1,9}(?P<secret>(?=[A-Za-z_-]{0,99}[\d.+/=])[\w.~+/=-]{12,})"),
        # An address: up to the last @, because passwords are often not encoded; a port is none.
        (
            "://",
            (
                r"\b[a-z][a-z0-9+.-]{0,20}://[^\s/:@\[\"'<>]{0,200}:(?!\d{1,5}(?:[/?#,;]|$))"
                r"(?P<secret>[^\s\"'`<>]{1,200})@"
            ),
        ),
        (
            "?",
            (
                r"[?&](?:key|sig|signature|code|auth|pass|pwd|api_?key|access_token|X-Amz-Signature)="
                r"(?P<secret>[^\s&\"'#]{8,})"
            ),
        ),
        (
            "curl wget http",
            (
                r"\b(?:curl|wget|https?)\b[^\r\n]{0,200}?\s(?:-u|--user|--proxy-user|-U)[ =]?[\"']?"
                r"[^\s:\"'/]{1,100}:(?P<secret>[^\s\"']{3,})"
            ),
        ),
        (
            "sshpass mysql mariadb login htpasswd redis-cli",
            (
                r"\b(?:sshpass|mysql\w{0,9}|mariadb\w{0,9}|(?:docker|podman) login"
                r"|htpasswd|redis-cli)\b"
                r"[^\r\n|;&]{0,200}?\s(?:-p|-a)[ =]?[\"']?(?P<secret>[^\s\"']{4,})"
            ),
        ),
        (
            "-password -passwd -pass -token -key -secret -auth",
            (
                r"\s--?(?:[a-z]{1,20}-){0,3}"
                r"(?:password|passwd|pass|token|secret|auth|(?:api|access|account)-?key)[ =][\"']?"
                r"(?P<secret>(?![-$<{])[^\s\"']{4,})"
            ),
        ),
        (
            "password-stdin",
            r"\becho\s{1,9}[\"']?(?P<secret>[^\s\"']{4,99})[^\r\n]{0,99}--password-stdin",
        ),
        ("login", r"\blogin\s{1,9}\S{1,99}\s{1,9}password\s{1,9}(?P<secret>\S{1,200})"),
        (
            "password identified",
            r"\b(?:PASSWORD|IDENTIFIED BY)\s{1,9}'(?P<secret>[^'\r\n]{4,200})'",
        ),
        (
            "auth=(",
            r"\bauth=\(\s{0,9}[\"'][^\"'\r\n]{0,60}[\"'],\s{0,9}[\"'](?P<secret>[^\"'\r\n]{3,99})",
        ),
        (
            "</",
            (
                r"<(?:\w{1,20}:)?[\w.-]{0,40}?(?:password|passwd|secret|token|api-?key)>"
                r"(?P<secret>[^<]{4,999})</"
            ),
        ),
        (
            "value=",
            (
                r"\b(?:key|name)=[\"'][\w.:-]{0,60}?(?:password|secret|token|api_?key)[\"']\s{1,9}"
                r"value=[\"']"
                r"(?P<secret>[^\"']{4,})"
            ),
        ),
        (
            "accountkey sharedaccess",
            r"\b(?:AccountKey|SharedAccessKey|SharedAccessSignature)=(?P<secret>[^\s;\"']{8,})",
        ),
        (
            "auth identitytoken",
            r"\"(?:_?auth|identitytoken)\\?\"\s{0,9}:\s{0,9}\\?\"(?P<secret>[\w+/=]{12,})",
        ),
        # The private members of a JSON Web Key.
        ("kty", r"\"(?:d|p|q|dp|dq|qi|k)\\?\"\s{0,9}:\s{0,9}\\?\"(?P<secret>[\w-]{30,})"),
        (
            "seed recovery mnemonic",
            (
                r"\b(?:seed|recovery|mnemonic)(?:[ _-](?:phrase|words?))?\s{0,9}(?:is|are|:|=){1,2}"
                r"\s{0,9}[\"']?"
                r"(?P<secret>(?:[a-z]{1,20}\s{1,9}){11,23}[a-z]{1,20})"
            ),
        ),
        (
            "key",
            (
                r"(?<![a-z])key\s{0,9}[:=]\s{0,9}[\"']?(?P<secret>(?=\S{0,60}\d)(?=\S{0,60}(?-i:[a-z]))"
                r"(?=\S{0,60}(?-i:[A-Z]))[\w+/=-]{20,})"
            ),
        ),
    )
)
_AWS_ID: Final = re.compile(rf"{_START}(?:AKIA|ASIA)[A-Z0-9]{{16}}\b")
# Secret only beside an id: such letters alone are also a path or a hash.
_AWS_SECRET: Final = re.compile(
    r"(?<![A-Za-z0-9+/=])(?=[^\s]{0,39}[a-z])(?=[^\s]{0,39}[A-Z])(?=[^\s]{0,39}\d)[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/])"
)


def redacted(text: str) -> str:
    """The text with each part that looks like a secret replaced by a marker."""
    if _AWS_ID.search(text):
        text = _AWS_SECRET.sub(MARK, text)
    for pattern in _WHOLE:
        text = pattern.sub(MARK, text)
    lowered = text.lower()
    for words, place in _PLACES:
        if any(word in lowered for word in words):
            text = re.sub(place, _without_secret, text, flags=re.IGNORECASE)
    kept, at = [], 0
    for start, end in named_secret_spans(text):
        kept += [text[at:start], MARK]
        at = end
    return "".join([*kept, text[at:]])


def redacted_beginning(text: str, characters_max: int) -> str:
    """The beginning of the redacted text. A secret that is cut would no longer be recognized."""
    return redacted(text[: characters_max + _CONTEXT_CHARACTERS])[:characters_max]


def _without_secret(match: re.Match[str]) -> str:
    start, end = match.span("secret")
    whole, offset = match.group(), match.start()
    return whole[: start - offset] + MARK + whole[end - offset :]
