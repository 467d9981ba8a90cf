"""The order of importance, not its decimals."""

from __future__ import annotations

from datetime import UTC, datetime

from luma_memory.domain.enrichment import EnrichmentRequest
from luma_memory.providers.completion.extract import extract

WHEN = datetime(2023, 5, 8, tzinfo=UTC)


def importance(text: str) -> float:
    return extract(EnrichmentRequest(text, WHEN), model="test").importance


def test_from_small_talk_over_opinion_and_question_to_an_event_of_a_life() -> None:
    thanks = importance("Thanks, that's great!")
    question = importance("Do you like pottery?")
    opinion = importance("Pottery is relaxing.")
    statement = importance("I tried pottery and glazed a bowl.")
    event = importance("I moved to Toronto last month because Shopify hired me.")
    assert thanks < question < opinion < statement < event
    assert thanks <= 0.1
    assert event >= 0.6


def test_what_must_be_kept_counts_more() -> None:
    assert importance("Remember that I'm allergic to peanuts.") > importance("I ate some peanuts.")


def test_the_addressee_of_a_turn_is_no_fact() -> None:
    assert importance("Pottery is relaxing, Noor!") == importance("Pottery is relaxing!")
