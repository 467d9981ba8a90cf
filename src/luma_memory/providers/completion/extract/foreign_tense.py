"""Which way a date without a year or a direction lies, in languages without a vocabulary.

A short list a language; where it does not decide, the date stays unread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

_NEVER: Final = "(?!)"


@dataclass(frozen=True, slots=True)
class _Cues:
    """Patterns. `past_endings` look like a verb of the past and may be a noun ("школа")."""

    past: str
    future: str
    past_endings: str = _NEVER


_CYRILLIC: Final = _Cues(
    past=r"\b(?:был[аои]?|прош(?:ёл|ел|ла|ло|ли)|ходил\w*|ездил\w*|видел\w*|встретил\w*|купил\w*"
    r"|сделал\w*|закончил\w*|начал(?:ся|ась|ось|ись)|истёк|истек|истекла|бу(?:в|ла|ло|ли)|минул\w*)\b",
    future=r"\b(?:встреч[аиуе]|при[её]м|срок|дедлайн|экзамен|истека\w+|истеч\w+|буд(?:у|ет|ем|ут)"
    r"|заплан\w+|планиру\w+|собеседован\w+|совещан\w+|начина\w+|начн\w+|рейс|вылет\w*|отправля\w+"
    r"|запис(?:ь|ан[аоы]?)|нужно|надо|зустріч|термін|буде|іспит|заплановано)\b|\bдо\b",
    past_endings=r"\b\w+(?:л|ла|ло|ли)(?:с[ья])?\b",
)
_CUES: Final = {
    **dict.fromkeys(("ru", "uk", "bg", "sr", "mk", "kk"), _CYRILLIC),
    "ja": _Cues(
        past=r"(?:した|った|いた|えた|けた|れた|きた|んだ)(?:[。！!」\s]|$)|でした|ました",
        future=r"予定|予約|締め?切|期限|までに|つもり|でしょう",
    ),
    "zh": _Cues(past=r"了|過|过(?!期)", future=r"将|將|预约|預約|截止|之前|计划|計劃|到期|打算"),
    "ko": _Cues(past=r"[었았였했갔왔됐]", future=r"예정|예약|마감|까지|할 것|거예요|만료"),
}


def tense(text: str, language: str) -> Literal["past", "future"] | None:
    """None where the text does not say it for certain."""
    cues = _CUES.get(language)
    if cues is None:
        return None
    is_past, is_future, may_be_past = (
        re.search(pattern, text, re.IGNORECASE) is not None
        for pattern in (cues.past, cues.future, cues.past_endings)
    )
    if is_past:
        return None if is_future and cues.past_endings is _NEVER else "past"
    if is_future:
        return None if may_be_past else "future"
    return "past" if may_be_past else None
