"""What people ask for as it is written: versions, numbers, emoji, names that are stop words."""

from __future__ import annotations

import pytest

from luma_memory.pipeline.text.questions import MAX_QUERY_TERMS, query_terms
from luma_memory.pipeline.text.terms import document_terms


def matched(query: str, text: str) -> set[str]:
    indices = set(document_terms(text).indices)
    return {term.term for term in query_terms(query) if term.index in indices}


@pytest.mark.parametrize(
    "text",
    [
        *("payments-api:2.3.1", "payments-api/2.3.1", "payments-api@2.3.1", "payments-api-2.3.1"),
        *("payments_api_2.3.1", "payments-api=2.3.1", "payments-api==2.3.1", "api#2.3.1"),
        *("v2.3.1", "V2.3.1", "v2.3.1-beta", "v2.3.1-rc.1", "2.3.1-beta+build7", "app-v2.3.1"),
        *("python2.3.1", "https://host.example/pkg/2.3.1/readme", "foo-2.3.1.tar.gz", "2.3.1rc1"),
        *("バージョン2.3.1です", "版本：2.3.1", "２．３．１", "api:v2.3.1:latest", "(2.3.1)"),
    ],
)
def test_a_version_is_found_whatever_it_is_joined_to(text: str) -> None:
    assert "2.3.1" in matched("2.3.1", f"Deployed {text} on Friday.")
    assert "2.3.1" in matched("Who deployed v2.3.1?", f"Deployed {text} on Friday.")


@pytest.mark.parametrize(
    ("query", "text", "term"),
    [
        ("12.5", "It weighs 12.5kg", "12.5"),
        ("12.5 kg", "It weighs 12.5kg", "kg"),
        ("12.5kg", "It weighs 12.5 kg", "12.5"),
        ("5 kg", "5kg of flour", "5"),
        ("python 3.11", "needs python3.11", "3.11"),
        ("python3.11", "needs Python 3.11", "3.11"),
        ("10.0.0.7", "ssh admin@10.0.0.7:2222", "10.0.0.7"),
        ("2222", "ssh admin@10.0.0.7:2222", "2222"),
        ("1203", "会議室：１２０３", "1203"),
        ("１２０３", "room 1203", "1203"),
        ("1203", "कक्ष १२०३", "1203"),
        ("1203", "غرفة ١٢٠٣", "1203"),
        ("03-1234-5678", "電話：０３－１２３４－５６７８", "03-1234-5678"),
        ("01761234567", "call 0176 1234567", "01761234567"),
        ("0176 1234567", "call 01761234567", "01761234567"),
        ("01761234567", "call 0176-123-4567", "01761234567"),
        ("0176/1234567", "call 0176 123 4567", "01761234567"),
        ("(030) 123 4567", "call 0301234567", "0301234567"),
        ("🎉", "We won 🎉 today", "🎉"),
        ("👍", "ok 👍🏽", "👍"),
        ("👍🏿", "ok 👍", "👍"),
        ("❤", "with ❤️", "❤"),
        ("👨‍👩‍👧", "the 👨‍👩‍👧 trip", "👨\u200d👩\u200d👧"),
        ("👧", "the 👨‍👩‍👧 trip", "👧"),
        ("🇩🇪", "moved to 🇩🇪 in May", "🇩🇪"),
        ("Section A", "See Section A for terms", "^a"),
        ("US office", "our US office", "us"),
        ("Who works in IT?", "The IT department moved", "^it"),
        ("US office", "our US office", "^us"),
        ("IT", "Ask IT about the laptop", "^it"),
        ("10.12.20.25", "route 10.12.20.25/24 via eth0", "10.12.20.25"),
        ("Did I see the Who live?", "We saw the Who in Leeds", "^who"),
        ("집 어디야?", "집에서 일했다", "집"),
        ("책은 어디 있어?", "어제 책을 샀다", "책"),
        ("물 마셨어?", "물이 차갑다", "물"),
        ("3 m", "a cable of 3m", "3"),
        ("4.5.6", "registry.local/app@4.5.6", "4.5.6"),
        ("+4930901820", "Phone: +49 (30) 901-820", "4930901820"),
        ("AB-456", "部屋番号 ＡＢ－４５６", "ab-456"),
        ("9987", "Ticket ＃９９８７", "9987"),
        ("🇯🇵", "trip to 🇯🇵 in May", "🇯🇵"),
        ("vitamin K", "Vitamin K is in kale", "k"),
        ("CVE-2024-3094", "CVE-2024-3094 is critical", "cve-2024-3094"),
        ("00:1B:44:11:3A:B7", "MAC 00:1B:44:11:3A:B7 seen", "00:1b:44:11:3a:b7"),
        ("C++ team", "The C++ team meets", "c++"),
        ("Strasse", "Straße 5 in Köln", "strass"),
    ],
)
def test_a_text_is_found_by(query: str, text: str, term: str) -> None:
    assert term in matched(query, text)


@pytest.mark.parametrize(
    ("query", "text", "term"),
    [
        ("Section A", "See section B for a list", "^a"),
        ("Ask IT about it", "It works now, does it?", "^it"),
        ("WHO IS IT", "The IT department moved", "^it"),  # all capitals: no information
        ("2.3.1", "payments-api:2.1.3", "2.3.1"),
        ("2.3.1", "payments-api:12.3.1", "2.3.1"),
        ("20230507", "on 2023-05-07", "20230507"),  # a day is no telephone number
        ("🎉", "We won 🎂 today", "🎉"),
        ("사람", "책을 샀다", "책"),
    ],
)
def test_a_text_is_not_found_by(query: str, text: str, term: str) -> None:
    assert term not in matched(query, text)


LOG = "\n".join(
    f"2026-03-{day:02} 12:{second:02}:07 INFO worker-{day} heartbeat lag={second}ms queue=main ok"
    for day in range(1, 29)
    for second in (3, 41)
)


@pytest.mark.parametrize(
    "question",
    [
        f"{LOG}\nWhich certificate did Oksana renew on the gateway?",
        f"Which certificate did Oksana renew on the gateway?\n{LOG}",
        f"{LOG}\nplease find the certificate Oksana renewed on the gateway",
        f"{LOG.replace(chr(10), ' ')} Which certificate did Oksana renew on the gateway?",
    ],
)
def test_a_question_about_a_pasted_log_is_searched_by_the_question(question: str) -> None:
    terms = query_terms(question)
    assert len(terms) <= MAX_QUERY_TERMS
    assert {"certif", "oksana", "renew", "gateway"} <= {term.term for term in terms}
    assert not any(term.is_identifier for term in terms)


def test_what_stands_out_is_no_numbered_counter() -> None:
    lines = [f"INFO worker{n} handled request{n} path=/v1/items{n}/read" for n in range(80)]
    lines[40] += " quokka"
    assert "quokka" in {term.term for term in query_terms(" ".join(lines))}
    lines[41] += " ORA-01555"
    assert "ora-01555" in {term.term for term in query_terms(" ".join(lines))}


def test_a_pasted_log_is_searched_by_its_rare_words() -> None:
    lines = LOG.splitlines()
    lines[20] += " segfault in libvips"
    assert {"segfault", "libvip"} <= {term.term for term in query_terms("\n".join(lines))}


@pytest.mark.parametrize(
    ("query", "identifiers"),
    [
        ("Error E0999", {"e0999"}),
        ("What is order 48213 about?", {"48213"}),
        ("Which node runs payments-api:2.3.1?", {"2.3.1"}),
        ("Where does Xaver live?", {"xaver"}),
        ("Did Anna's sister call?", {"anna"}),
        ("Где живёт Ксавьер?", {"ксавьер"}),
        ("Welche Farbe hat mein Schlüssel?", set()),
        ("What happened on 7 May 2023 at 10:30?", set()),
        ("Was it the 2nd time in March?", set()),
        ("Do I like Italian food?", set()),
        ("Favorite Restaurant In Paris", set()),
        ("Did we spend 5000 on it?", set()),
        ("Does Ada drink tea?", set()),  # the user's own name
    ],
)
def test_codes_and_names_are_distinguished_from_other_words(
    query: str, identifiers: set[str]
) -> None:
    language = "de" if query.startswith("Welche") else "en"
    terms = query_terms(query, language=language, known=["ada"])
    assert {term.term for term in terms if term.is_identifier} == identifiers


def test_a_joined_word_covers_its_parts() -> None:
    terms = {term.term: term for term in query_terms("payments-api:2.3.1")}
    whole = terms["payments-api:2.3.1"]
    assert whole.covers == {terms[part].word for part in ("payment", "api", "2.3.1")}
    assert not whole.is_direct
    (first, second, joined) = query_terms("0176 1234567")
    assert joined.covers == {first.word, second.word}


def test_emoji_take_nothing_from_a_text_of_stop_words() -> None:
    assert "did" in matched("I did it", "I did it 👍")


@pytest.mark.parametrize("sign", ["ﷺ", "ﷻ"])
def test_signs_that_stand_for_phrases_are_not_spelled_out_in_runs(sign: str) -> None:
    assert len(document_terms(sign * 3_000).indices) < 50
    assert matched(sign, f"x {sign} y")
