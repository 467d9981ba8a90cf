"""Characters that act on their reader are dropped; those that scripts spell with stay."""

from __future__ import annotations

import pytest

from luma_memory.domain.inert_text import is_inert


@pytest.mark.parametrize(
    "text",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with a non-joiner
        "\u0d28\u0d4d\u200d",  # Malayalam, with a joiner
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family in one emoji
        "caf\u0065\u0301 \u2764\ufe0f",
    ],
)
def test_what_scripts_and_emoji_spell_with_stays(text: str) -> None:
    assert "".join(sign for sign in text if is_inert(sign)) == text


@pytest.mark.parametrize("sign", ["\x00", "\x1b", "\u202e", "\u2066", "\ufeff", "\ud800", "\ue000"])
def test_what_acts_on_its_reader_goes(sign: str) -> None:
    assert not is_inert(sign)
