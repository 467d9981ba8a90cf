"""Relevance is calibrated within the script of the question."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from luma_memory.domain.enrichment import EmbeddingModel
from luma_memory.domain.search import Calibration
from luma_memory.pipeline.recall.calibration import Calibrations
from luma_memory.pipeline.recall.script_samples import SCRIPT_SAMPLES
from luma_memory.pipeline.text.scripts import main_script
from luma_memory.ports.vector_models import VectorModels
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
    first = await calibrations.of_script(embedder, "GREEK")
    # Few pairs: halfway to the deviation that is expected.
    assert first.mean < WHOLE.mean
    assert 0.04 <= first.deviation < 0.1
    calls = embedder.calls
    assert calls > 0
    assert await calibrations.of_script(embedder, "GREEK") == first
    assert embedder.calls == calls


@pytest.mark.parametrize(
    ("model_id", "script"),
    [("local/words", "LATIN"), ("local/words", "CYRILLIC"), ("local/words", ""), ("a/b", "GREEK")],
)
async def test_otherwise_the_calibration_of_the_model_counts(model_id: str, script: str) -> None:
    embedder = ScriptEmbedder(model_id)
    assert await _calibrations().of_script(embedder, script) == WHOLE
    assert embedder.calls == 0


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
