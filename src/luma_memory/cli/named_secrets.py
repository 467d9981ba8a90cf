"""Values whose name marks them as secret: `password: …`, `API_KEY=…`, "the password is …".

Standard library only, for hooks of coding agents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# What people choose themselves; such a value may be a plain word.
_CHOSEN: Final = "password|passwd|passphrase|passcode|pwd"
# The same in other languages, whose sentences are not known here: a plain word is no value.
_FOREIGN: Final = "|".join(
    (
        *("passwort", "kennwort", "contrase\u00f1a", "mot de passe", "senha", "wachtwoord"),
        *("l\u00f6senord", "has\u0142o", "heslo", "parola", "\u043f\u0430\u0440\u043e\u043b\u044c"),
        *(
            "\u5bc6\u7801",
            "\u5bc6\u78bc",
            "\u30d1\u30b9\u30ef\u30fc\u30c9",
            "\ube44\ubc00\ubc88\ud638",
        ),
    )
)
# What is generated: it has digits or both cases.
_GENERATED: Final = (
    "secret[ _-]?(?:access[ _-]?)?key|secret|token|credentials?|connection[ _-]?string"
    "|(?:api|access|private|auth|client|signing|encryption|service|master|license)[ _-]?"
    "(?:access[ _-]?)?key"
)
# Too short to be looked for inside other words.
_SHORT: Final = r"(?<![A-Za-z])(?:pw|pass|pin)(?![A-Za-z])"
# Each bounded, so that no text takes long; the end of a longer value is looked for afterwards.
_BARE_MAX: Final = 300
_QUOTED: Final = "|".join(
    rf"\\?{mark}(?P<{name}>(?:[^{mark}\\\r\n]|\\[^{mark}\r\n]){{1,{_BARE_MAX}}})"
    for mark, name in (('"', "double"), ("'", "single"), ("`", "tick"))
)
_NAMED: Final = (
    rf"(?:(?P<chosen>{_CHOSEN})|(?P<foreign>{_FOREIGN})|(?P<generated>{_GENERATED})"
    rf"|(?P<short>{_SHORT}))(?P<suffix>[\w.-]{{0,40}})"
    # The end of a quoted or bold name, the former value that a command line shows, or whose it is.
    r"\\?[\"'`\]*]{0,2}\s?(?:\[None\])?(?:(?:for|of|f\u00fcr|von)\s(?:the\s)?[\w.-]{1,30})?"
    r"(?:(?P<assigned>\s{0,9}(?:=>|:=|==?|:|\uff1a|\|)\*{0,2}\s{0,9})"
    r"|(?P<stated>\s{0,9}\b(?:is|was|to|are|ist|war|sind|lautet|es|est|\u00e9|\u00e8|jest|\u00e4r)"
    r"\s{0,3}:?\s{1,9}|['\u2019]?s\s{1,9})"
    r"|(?:\s|(?<=\s)){1,9})"
    rf"(?:[a-z]{{0,2}}(?:{_QUOTED})|(?P<bare>[^\s\"'`]{{1,{_BARE_MAX}}}))"
)
_STEMS: Final = (
    *("pass", "pwd", "pw", "pin", "secret", "token", "credential", "key", "connection"),
    *_FOREIGN.split("|"),
)
# A value ends before the next parameter: `Pwd=abc;Encrypt=true`.
_NEXT_PARAMETER: Final = re.compile(r"[;&,][\w .-]{0,40}=|\\+[nrt\"']")
_REST: Final = {"bare": re.compile(r"[^\s\"'`]*"), "quoted": re.compile(r"[^\"'`\r\n]*")}
# After the name: something about it that is no secret.
_HARMLESS_SUFFIX: Final = re.compile(
    r"(?:[_.-]?(?:hash(?:es|ed)?|types?|counts?|budgets?|limits?|urls?|uris?|paths?|files?|names?|fields?|lengths?|len|min|max"
    r"|policy|reset|required|expir\w*|ttl|lifetime|format|ids?|endpoint|manager|size|usage|model|index|input|form|label|prompt"
    r"|placeholder|hint|store|env|var|provider)s?\d*)+$",
    re.IGNORECASE,
)
# Where the value is, what type it has, code, or that there is none.
_NO_VALUE: Final = re.compile(
    r"https?://|.*(?:\u2026|\.\.\.)$|[$%{<(*\u2022]|\[redacted|\.\.\.|x{3,}$|your[-_]|os\.|process\.|env[.(\[]|settings\.|config\.|self\.|this\.|await$|new$"
    r"|(?:none|null|nil|undefined|true|false|str|string|int|integer|bool|boolean|bytes|number|object|any|list|dict|array|optional"
    r"|secretstr|void|text|varchar|include|omit|same-origin|bearer|basic|required|function|const|lambda)(?![\w!@#%])"
    r"|[A-Za-z_][\w.]*[(\[]"
    r"|[a-z_]\w*(?:\.[a-z_]\w*)+[,;)]*$",
    re.IGNORECASE,
)
_PLAIN_WORDS: Final = re.compile(r"[^\W\d_]+(?:[-_'\u2019/][^\W\d_]+)*$")
_NUMBER: Final = re.compile(r"[\d.,_%/:x+-]+[kKmM]?$")
# What follows "the password is" in a sentence about a password.
_SENTENCE: Final = re.compile(
    r"(?:\w{2,}(?:ed|ing|ly|able|ible|ful|less|ous)|not|no|now|never|always|only|just|also|still|too|so|very|more|less|as|at|by|in"
    r"|on|for|from|to|of|with|without|under|over|about|the|a|an|this|that|these|those|it|its|one|two|what|where|when|why|how|who"
    r"|if|then|there|here|and|or|but|both|either|wrong|right|bad|good|weak|strong|long|short|old|new|same|safe|unsafe|secure"
    r"|insecure|invalid|valid|incorrect|correct|missing|empty|blank|mandatory|public|private|secret|lost|gone|known|unknown|out|up"
    r"|off|set|unset|kept|sent|part|like|read|written|hidden|plain|unique|different|mine|yours|ours|something|nothing|anything"
    r"|everything|some|any|all|first|last|next|see|ask|use|be|been|was|is|are|will|would|should|must|can|may|has|have|done|needs?"
    r"|ok|okay|page|field|string)$",
    re.IGNORECASE,
)
_ENDS: Final = re.compile(
    r"[.,;:!?)\]}\"'`\\]*(?:\s*(?:\n|\Z|and\b|und\b|but\b)|[,;)\]}\"'`\\]|\.\s)"
)
_RANDOM: Final = re.compile(r"(?=\S*\d)(?=\S*[A-Za-z])[\w+/=.~-]{16,}$")
_PASSWORD_LIKE: Final = re.compile(r"(?=\S*\d)(?=\S*[A-Za-z])\S{8,}$")
_MIXED: Final = re.compile(r"(?=.*[a-z])(?=.+[A-Z])")
_GENERATED_WORD_MAX: Final = 20
_NUMBER_MIN: Final = 4  # digits
_VALUE_MIN: Final = 4
_TRAILING: Final = ".,;:!?)]}"


def named_secret_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where the values are, in order and without overlaps."""
    lowered = text.lower()
    if not any(stem in lowered for stem in _STEMS):
        return
    named = re.compile(_NAMED, re.IGNORECASE)  # here: a hook starts faster
    at = 0
    while (match := named.search(text, at)) is not None:
        start, end = _value_span(match)
        if _is_secret(match, text[start:end]):
            if end - start >= _BARE_MAX:
                end = _end_of_long_value(match, end)
            yield start, end
            at = end
        else:
            # The value may itself be the name of the next one.
            at = match.end("suffix")


def _value_span(match: re.Match[str]) -> tuple[int, int]:
    """Of the value, without the marks around it and what follows it."""
    name = next(name for name in ("double", "single", "tick", "bare") if match[name] is not None)
    start, end = match.span(name)
    following = _NEXT_PARAMETER.search(match.string, start, end)
    if following is not None:
        return start, following.start()
    if name == "bare":
        end = start + len(match.string[start:end].rstrip(_TRAILING))
    return start, end


def _end_of_long_value(match: re.Match[str], end: int) -> int:
    rest = _REST["bare" if match["bare"] is not None else "quoted"].match(match.string, end)
    return end if rest is None else rest.end()


def _is_secret(match: re.Match[str], value: str) -> bool:
    suffix = match["suffix"]
    # Followed by a lower-case letter it is another word: `tokens`, `secretary`.
    if suffix[:1].islower() or _HARMLESS_SUFFIX.match(suffix):
        return False
    if len(value) < _VALUE_MIN or _NO_VALUE.match(value):
        return False
    if match["assigned"] is None and match["stated"] is None:
        like = _RANDOM if match["generated"] is not None else _PASSWORD_LIKE
        return match["bare"] is not None and like.match(value) is not None
    if _NUMBER.match(value):
        return match["generated"] is None and _is_number_of_one(match, value)
    if match["short"] is not None:
        return match["short"].lower() != "pin" and not _PLAIN_WORDS.match(value)
    if _names_itself(match, value):
        return False
    if match["bare"] is None and " " in value:
        return match["chosen"] is not None
    if not _PLAIN_WORDS.match(value):
        return True
    return _is_word_of_one(match, value)


def _is_number_of_one(match: re.Match[str], value: str) -> bool:
    """Test results and counts follow `pass` as well."""
    digits = sum(sign.isdigit() for sign in value)
    is_count = (match["short"] or "").lower() == "pass" and digits < len(value)
    return digits >= _NUMBER_MIN and not is_count


def _names_itself(match: re.Match[str], value: str) -> bool:
    """Whether it is a variable (`password=password`) or a text about it ("Enter a password")."""
    name = match["chosen"] or match["foreign"] or match["generated"]
    return name.lower() in value.lower() and not any(sign.isdigit() for sign in value)


def _is_word_of_one(match: re.Match[str], value: str) -> bool:
    """Whether a word without digits is the secret."""
    if match["generated"] is not None:
        is_variable = match.string[match.start() - 1 : match.start() + 1].isupper()
        is_set = "=" in (match["assigned"] or "") and is_variable and len(value) >= 8
        is_mixed = _MIXED.match(value) is not None and "-" not in value and len(value) >= 12
        return is_set or is_mixed or len(value) > _GENERATED_WORD_MAX
    if _SENTENCE.match(value) or (match["foreign"] is not None and match["bare"] is not None):
        return False
    # More words behind it make it a sentence.
    if match["bare"] is None or (match["assigned"] or "").strip() == "=":
        return True
    is_next_line = "\n" in (match["assigned"] or match["stated"])
    end = match.start("bare") + len(value)
    return not is_next_line and _ENDS.match(match.string, end) is not None
