"""Relevance by words in other languages: two notes of one form differ by their nouns."""

from __future__ import annotations

import numpy as np
import pytest

from luma_memory.pipeline.recall.coverage import TimeWords, coverage_of
from luma_memory.pipeline.recall.postings import Posting, posting_of
from luma_memory.pipeline.recall.relevance import word_relevance
from luma_memory.pipeline.text.function_words import function_terms, is_loaded
from luma_memory.pipeline.text.questions import query_terms
from luma_memory.pipeline.text.terms import QueryTerm, document_terms

RELEVANT = 0.75


def _relevances(question: str, language: str, texts: list[str]) -> list[float]:
    vectors = [document_terms(text, language=language) for text in texts]
    columns = [dict(zip(v.indices, v.weights, strict=True)) for v in vectors]
    best: dict[int, tuple[QueryTerm, Posting]] = {}
    for term in query_terms(question, language=language):
        column = np.array([c.get(term.index, 0) for c in columns], dtype=np.float32)
        best.setdefault(term.word, (term, posting_of(column)))
    time = TimeWords(frozenset(), np.array([], dtype=np.intp))
    coverage = coverage_of(list(best.values()), len(texts), time)
    return [float(value) for value in word_relevance(coverage.share(slice(None)))]


@pytest.mark.parametrize(
    ("language", "notes", "of_it", "of_another"),
    [
        ("ja", ["猫の名前はミソです。", "母の誕生日は五月です。"], "猫の名前は？", "犬の名前は？"),
        ("ja", ["母の誕生日は五月です。", "車の色は赤です。"], "母の誕生日は？", "父の誕生日は？"),
        ("ja", ["車の色は赤です。", "母の誕生日は五月です。"], "車の色は？", "家の色は？"),
        ("zh", ["猫的名字是米索。", "车的颜色是红色。"],
         "猫的名字是什么？", "狗的名字是什么？"),
        ("zh", ["妈妈的生日是五月。", "猫叫米索。"],
         "妈妈的生日是什么时候？", "爸爸的生日是什么时候？"),
        ("ko", ["고양이 이름은 미소입니다.", "차는 빨간색입니다."],
         "고양이 이름은?", "강아지 이름은?"),
        ("ko", ["엄마 생일은 5월입니다.", "고양이는 미소."],
         "엄마 생일은 언제?", "아빠 생일은 언제?"),
        ("el", ["Τα γενέθλια της μαμάς είναι τον Μάιο.", "Η γάτα λέγεται Μίσο."],
         "Πότε είναι τα γενέθλια της μαμάς;", "Πότε είναι τα γενέθλια του μπαμπά;"),
        ("he", ["יום ההולדת של אמא במאי.", "החתול נקרא מיסו."],
         "מתי יום ההולדת של אמא?", "מתי יום ההולדת של אבא?"),
        ("vi", ["Con mèo tên là Miso.", "Sinh nhật mẹ vào tháng năm."],
         "Con mèo tên là gì?", "Con chó tên là gì?"),
        ("ru", ["День рождения мамы в мае.", "Кота зовут Мурзик."],
         "Когда день рождения мамы?", "Когда день рождения папы?"),
        ("ar", ["عيد ميلاد أمي في مايو.", "القطة اسمها ميسو."],
         "متى عيد ميلاد أمي؟", "متى عيد ميلاد أبي؟"),
        ("tr", ["Annemin doğum günü mayısta.", "Kedinin adı Miso."],
         "Annemin doğum günü ne zaman?", "Babamın doğum günü ne zaman?"),
        ("de", ["Die Katze heißt Miso.", "Mamas Auto ist rot."],
         "Wie heißt die Katze?", "Wie heißt der Hund?"),
        ("fr", ["L'anniversaire de maman est en mai.", "La voiture est rouge."],
         "Quand est l'anniversaire de maman ?", "Quand est l'anniversaire de papa ?"),
    ],
)  # fmt: skip
def test_a_note_about_another_is_not_relevant(
    language: str, notes: list[str], of_it: str, of_another: str
) -> None:
    assert _relevances(of_it, language, notes)[0] >= RELEVANT
    assert max(_relevances(of_another, language, notes)) < RELEVANT


@pytest.mark.parametrize(
    ("question", "language", "naming"),
    [
        ("Πότε είναι τα γενέθλια του μπαμπά;", "el", {"γενεθλια", "μπαμπα"}),
        ("Con chó tên là gì?", "vi", {"cho"}),  # "cho", as written, would be "for"
        ("犬の名前は？", "ja", {"犬", "名前"}),
        ("狗的名字是什么？", "zh", {"狗", "名字"}),
        ("강아지 이름은?", "ko", {"강아", "아지", "이름"}),
        ("Wer ist das?", "de", {"wer", "ist", "das"}),  # nothing else to go by
        ("Who is that dog?", "en", {"dog"}),
    ],
)
def test_terms_that_name_something_count(question: str, language: str, naming: set[str]) -> None:
    terms = query_terms(question, language=language)
    counted = {term.term for term in terms if term.is_direct and not term.term.startswith("~")}
    assert counted == naming


@pytest.mark.parametrize("language", ["en", "ja", "zh", "ko", None])
def test_nothing_is_loaded_for_english_and_for_pairs(language: str | None) -> None:
    assert is_loaded(language)


def test_a_language_is_loaded_by_its_first_question() -> None:
    function_terms("Hvor er min hund?", "da")
    assert is_loaded("da")


def test_a_code_among_function_words_counts() -> None:
    terms = query_terms("Was ist E0277 für ein Fehler?", language="de")
    assert [term.kind for term in terms if term.term == "e0277"] == ["code"]
