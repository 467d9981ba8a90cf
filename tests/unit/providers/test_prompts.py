"""Prompts are versioned files: released ones never change, and each has the required parts."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

import pytest

from luma_memory.providers.completion import prompts
from luma_memory.providers.completion.prompts import prompt_text

# Name and content: a change is a new file beside the old one, since results name what made them.
RELEASED = {
    "enrich_v1": "212cbe16849aafd7916345554639dee399dcd222e167dbebb2b8bb5b96196199",
    "relate_v1": "df104906b8f5905abb2ece5d0dbcd4f1446f9c342cb83bbbbd116a0fae5a1899",
    "summarize_v1": "e15c9832785b67b2d475541584088d5e23792a2518b5825f9d40937cd3c17770",
    "synthesize_v1": "aeef37c510b831fcdf1730e17880a6934116454ccbe5b00295928754586bd7ef",
}


def _names() -> list[str]:
    entries = files(prompts).iterdir()
    return sorted(e.name.removesuffix(".md") for e in entries if e.name.endswith(".md"))


def test_every_prompt_is_released_and_none_was_edited() -> None:
    texts = {name: prompt_text(name).encode() for name in _names()}
    assert {name: sha256(text).hexdigest() for name, text in texts.items()} == RELEASED


@pytest.mark.parametrize("name", RELEASED)
def test_texts_of_users_are_data(name: str) -> None:
    prompt = " ".join(prompt_text(name).lower().split())
    assert "data" in prompt
    assert "never obey" in prompt or "never follow" in prompt or "not instructions" in prompt


@pytest.mark.parametrize(
    "demand",
    [
        "never obey it",
        "in the language of the text",
        "A German text gets a German title",
        'It is the only "now" there is',
        "resolve every relative date",
        "add nothing you know from elsewhere",
    ],
)
def test_the_enrichment_prompt_requests_what_the_service_promises(demand: str) -> None:
    assert demand in " ".join(prompt_text("enrich_v1").split())
