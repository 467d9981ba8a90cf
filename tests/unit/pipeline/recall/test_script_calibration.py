"""Relevance is calibrated within the script of the question, or its language."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from luma_memory.domain.enrichment import EmbeddingModel
from luma_memory.domain.search import Calibration
from luma_memory.pipeline.recall.calibration import Calibrations, is_readable
from luma_memory.pipeline.recall.language_samples import LANGUAGE_SAMPLES
from luma_memory.pipeline.recall.script_samples import SCRIPT_SAMPLES
from luma_memory.pipeline.text.scripts import main_script
from luma_memory.ports.vector_models import VectorModels
from luma_memory.providers.completion.extract.language import UNDETERMINED, identify
from luma_memory.testing.models import WordEmbedder

WHOLE = Calibration(0.5, 0.1)


class Stored:
    """Every model is calibrated already."""

    async def calibration(self, _model_id: str) -> Calibration:
        return WHOLE

    async def store_calibration(self, _model_id: str, _calibration: Calibration) -> None:
        raise AssertionError("nothing is to be stored")


def _calibrations() -> Calibrations:
    return Calibrations(cast("VectorModels", Stored()))


class ScriptEmbedder(WordEmbedder):
    """Reads Latin and Greek."""

    def __init__(self, model_id: str) -> None:
        self.calls = 0
        super().__init__(model_id=model_id, before=self._count)

    @property
    def model(self) -> EmbeddingModel:
        return replace(super().model, scripts=frozenset({"LATIN", "GREEK"}))

    async def _count(self, _texts: object) -> None:
        self.calls += 1


async def test_a_local_model_is_calibrated_once_within_a_script() -> None:
    embedder, calibrations = ScriptEmbedder("local/words"), _calibrations()
    first = await calibrations.of_question(embedder, "GREEK", "el")
    # Few pairs: halfway to the deviation that is expected.
    assert first.mean < WHOLE.mean
    assert 0.04 <= first.deviation < 0.1
    calls = embedder.calls
    assert calls > 0
    assert await calibrations.of_question(embedder, "GREEK", "el") == first
    assert embedder.calls == calls


@pytest.mark.parametrize(
    ("model_id", "script", "language"),
    [
        ("local/words", "LATIN", "en"),
        ("local/words", "LATIN", "fi"),
        ("local/words", "LATIN", None),
        ("local/words", "CYRILLIC", "ru"),
        ("local/words", "", None),
        ("a/b", "GREEK", "el"),
        ("a/b", "LATIN", "es"),
    ],
)
async def test_otherwise_the_calibration_of_the_model_counts(
    model_id: str, script: str, language: str | None
) -> None:
    embedder = ScriptEmbedder(model_id)
    assert await _calibrations().of_question(embedder, script, language) == WHOLE
    assert embedder.calls == 0


async def test_languages_of_latin_script_are_calibrated_each() -> None:
    embedder, calibrations = ScriptEmbedder("local/words"), _calibrations()
    spanish = await calibrations.of_question(embedder, "LATIN", "es")
    assert spanish.mean < WHOLE.mean
    calls = embedder.calls
    assert await calibrations.of_question(embedder, "LATIN", "es") == spanish
    assert embedder.calls == calls
    await calibrations.of_question(embedder, "LATIN", "tr")
    assert embedder.calls > calls


@pytest.mark.parametrize(
    ("text", "language", "english", "many"),
    [
        ("Where is the key?", "en", True, True),
        ("Where is the café?", "en", True, True),
        ("key?", None, True, True),
        ("¿Dónde está la llave?", "es", True, True),
        ("Missä avain on?", "fi", False, True),  # without samples
        ("Banka şifresi ne?", None, False, True),
        ("Где ключ?", "ru", False, True),
        ("鍵はどこ？", "ja", False, False),
    ],
)
def test_what_a_model_can_read(text: str, language: str | None, english: bool, many: bool) -> None:
    assert is_readable(text, language, frozenset({"LATIN"})) is english
    assert is_readable(text, language, frozenset({"LATIN", "CYRILLIC"})) is many
    assert is_readable(text, language, None)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Where is the key?", "LATIN"),
        ("Где ключ от Mazda?", "CYRILLIC"),
        ("鍵はどこ？", "HIRAGANA"),
        ("データ", "HIRAGANA"),
        ("钥匙在哪里？", "CJK"),
        ("열쇠 어디?", "HANGUL"),
        ("12 + 3", ""),
    ],
)
def test_the_script_of_most_letters(text: str, script: str) -> None:
    assert main_script(text) == script


def test_samples_are_in_their_script() -> None:
    for script, (questions, statements) in SCRIPT_SAMPLES.items():
        assert len(questions) == len(statements) == 6
        assert {main_script(text) for text in (*questions, *statements)} == {script}


def test_samples_are_in_their_language() -> None:
    for language, (questions, statements) in LANGUAGE_SAMPLES.items():
        assert len(questions) == len(statements) == 6
        for text in (*questions, *statements):
            assert identify(text).reported in {language, UNDETERMINED}, text
