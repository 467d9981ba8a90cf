"""Names, numbers and links."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from luma_memory.domain.enrichment import EnrichmentRequest
from luma_memory.providers.completion.extract import extract
from luma_memory.providers.completion.extract.amounts import amounts
from luma_memory.providers.completion.extract.links import links

WHEN = datetime(2023, 5, 8, tzinfo=UTC)


def found(text: str) -> set[tuple[str, str]]:
    result = extract(EnrichmentRequest(text, WHEN), model="test")
    return {(entity.name, entity.kind) for entity in result.entities}


@pytest.mark.parametrize(
    ("text", "name", "kind"),
    [
        ("My sister Noor moved out last month.", "Noor", "person"),
        ("That was very kind of you, Noor!", "Noor", "person"),
        ("Hey Noor, the parcel arrived.", "Noor", "person"),
        ("I had an appointment with Dr. Okafor about my knee.", "Dr. Okafor", "person"),
        ("We flew to Toronto for the weekend.", "Toronto", "place"),
        ("We camped near Silver Lake for two nights.", "Silver Lake", "place"),
        ("My brother works at Shopify and loves the canteen.", "Shopify", "organization"),
        ("He studies at the University of Porto.", "University of Porto", "organization"),
        ("I bought tickets for the Riverside Festival already.", "Riverside Festival", "event"),
        ("The notes sync through PostgreSQL nowadays.", "PostgreSQL", "product"),
        ("We moved the AO report to the archive.", "AO", "other"),
        ("Gestern habe ich meine Kollegin Anna besucht.", "Anna", "person"),
        ("Ayer fui al cine con mi hermana Lucía.", "Lucía", "person"),
        ("Hier j'ai vu Monsieur Lefèvre au marché.", "Monsieur Lefèvre", "person"),
    ],
)  # fmt: skip
def test_kinds(text: str, name: str, kind: str) -> None:
    assert (name, kind) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "In Rust, a value has one owner.",
        "I rewrote the parser in Rust over the winter.",
        "She wrote the letter in Esperanto.",
        "Nach Feierabend gehe ich schwimmen.",
        "Nach Feierabend fahre ich immer mit dem Rad.",
        "Nach Ladenschluss räumen wir auf.",
        "Der Dienst ist in Rust geschrieben.",
        "Wir haben das in Kleinarbeit gebaut.",
        "Escribí el programa en Kotlin hace tiempo.",
        "J'ai écrit le programme en Kotlin cet hiver.",
        "Il programma l'ho scritto in Kotlin.",
        "Het programma is in Kotlin geschreven.",
    ],
)
def test_a_preposition_alone_makes_no_place(text: str) -> None:
    """Without further evidence, a name has no kind."""
    assert "place" not in {kind for _, kind in found(text)}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("I grew up in Ballarat with two brothers.", "Ballarat"),
        ("We moved to a flat in Ballarat last year.", "Ballarat"),
        ("Ich wohne seit Mai in Tübingen.", "Tübingen"),
        ("Morgen fahren wir nach Tübingen.", "Tübingen"),
        ("Vivo en Salamanca desde mayo.", "Salamanca"),
    ],
)
def test_a_place_where_people_live_or_travel_is_one(text: str, name: str) -> None:
    assert (name, "place") in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "Hey Siri, set a timer for ten minutes.",
        "I asked Alexa to play some jazz.",
        "Alexa, turn the lights off!",
        "That was helpful, Claude!",
        "Hey Gemini, what is the weather?",
        "Assistant said it would be fine.",
        "Hey Siri, stell den Wecker.",
        "Danke, Alexa!",
    ],
)
def test_an_assistant_is_no_person(text: str) -> None:
    assert "person" not in {kind for _, kind in found(text)}


def test_a_person_may_have_the_name_of_an_assistant() -> None:
    assert ("Alexa", "person") in found("My sister Alexa moved out last month.")


@pytest.mark.parametrize(
    "text",
    [
        "Pottery helps me relax. Nature does too.",
        "I think I'm fine. Don't worry!",
        "THIS IS SO COOL AND I LOVE IT",
        "Error Handling: check the answer. Null Checks: add them.",
        "Der Hund und die Katze schlafen im Garten hinter dem Haus.",
    ],
)
def test_a_capital_alone_is_no_name(text: str) -> None:
    assert found(text) == set()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Paris Hilton was on television.", "Paris"),
        ("Mr. Bean is funny. Mrs Doubtfire is funny too.", "Mrs"),
        ("Mr. Bean is funny. Mrs Doubtfire is funny too.", "Mr"),
        ("Georgia O'Keeffe painted flowers.", "Georgia"),
    ],
)
def test_the_first_word_of_a_longer_name_is_no_name_of_its_own(text: str, part: str) -> None:
    assert part not in {name for name, _ in found(text)}


def test_one_name_has_one_kind_and_stands_once() -> None:
    assert found("Noor called. My sister Noor is fine, Noor!") == {("Noor", "person")}


def test_entities_come_in_order_of_appearance() -> None:
    text = "On 3 June 2024 my sister Noor paid $1,200, see https://example.org/a."
    result = extract(EnrichmentRequest(text, WHEN), model="test")
    assert [e.kind for e in result.entities] == ["date", "person", "number", "link"]
    assert result.entities[0].value == "2024-06-03"


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("It costs $1,299.50 now", "$1,299.50"),
        ("Die Miete ist 950 € im Monat", "950 €"),
        ("we ran 12.5 km today", "12.5 km"),
        ("about 40% of them", "40%"),
        ("call +49 30 1234567 please", "+49 30 1234567"),
        ("3 million dollars", "3 million dollars"),
        ("seat 1042", "1042"),
    ],
)
def test_amounts(text: str, amount: str) -> None:
    assert [a.text for a in amounts(text, [])] == [amount]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It costs $3.50/month", ["$3.50"]),
        ("It costs $3.50-$4 a day", []),
        ("It rains 5 mm/day", ["5 mm"]),
        ("IBAN DE89 3704 0044 0532 0130 00", []),
        ("Card 4111 1111 1111 1111", []),
        ("Call 0176 1234567 now", ["0176 1234567"]),
        ("In 2025 300 people came", ["300 people"]),
        ("The hosts are 10.0.0.1/24 and 192.168.1.1:8080", []),
        ("Pay 1.234.567,89 € or 12'345.60 CHF", ["1.234.567,89 €", "12'345.60 CHF"]),
    ],
)
def test_no_part_of_a_longer_number_is_an_amount(text: str, found: list[str]) -> None:
    assert [a.text for a in amounts(text, [])] == found


def test_amounts_leave_dates_and_small_counts_alone() -> None:
    assert amounts("On 2023-05-07 we had 3 cats in v2.1.0 at 10:30", [(3, 13)]) == []


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("see https://example.org/a_(b)?q=1.", "https://example.org/a_(b)?q=1"),
        ("(www.example.org)", "www.example.org"),
        ("mail jo.doe@example.org!", "jo.doe@example.org"),
    ],
)
def test_links(text: str, link: str) -> None:
    assert [found.text for found in links(text)] == [link]


def test_a_link_is_read_neither_as_words_nor_as_a_number() -> None:
    result = extract(
        EnrichmentRequest("https://example.org/2019/carrots?x=1234", WHEN), model="test"
    )
    assert [entity.kind for entity in result.entities] == ["link"]
    assert result.tags == ()
