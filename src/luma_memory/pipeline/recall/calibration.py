"""The calibration of an embedding model: its cosines between unrelated texts, measured once.

One model gives unrelated texts 0.05, another 0.75, so a cosine is meaningful only in relation to
that. The first search with a model embeds a few questions and statements that are not
related, and stores the mean and deviation of their cosines with the model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from luma_memory.domain.enrichment import Embedding
from luma_memory.domain.search import Calibration
from luma_memory.pipeline.recall.language_samples import LANGUAGE_SAMPLES
from luma_memory.pipeline.recall.script_samples import SCRIPT_SAMPLES, Samples
from luma_memory.pipeline.text.scripts import LATIN, is_legible
from luma_memory.ports.models import Embedder
from luma_memory.ports.vector_models import VectorModels

# Each has its own subject, so that every pair of a question and a statement is about
# different things. Written for this purpose; a few in other languages, as blocks are.
QUESTIONS: Final = (
    "How long does bread dough have to rest?",
    "Which train goes to the airport in the evening?",
    "What did the dentist say about the wisdom tooth?",
    "Who repaired the roof of the barn?",
    "When is the tax return due?",
    "What is the name of the neighbour's parrot?",
    "How do I reset the router's password?",
    "Which vaccine does the puppy still need?",
    "Where did we park the rental car?",
    "What colour are the new curtains?",
    "How many laps did she swim on Tuesday?",
    "Who plays the cello in the quartet?",
    "Wann beginnt die Vorlesung über Thermodynamik?",
    "¿Dónde guardó la abuela las fotos antiguas?",
    "Quel vin va avec le poisson ?",
    "Why was the database migration rolled back?",
)
STATEMENTS: Final = (
    "Marta: The volcano near the harbour has been quiet for forty years.",
    "Our chess club meets in the library cellar, bring your own clock.",
    "user: I owe Peter twelve euros for the concert tickets.",
    "He finally passed his driving test at the third attempt.",
    "The tomatoes on the balcony have caught blight again this summer.",
    "assistant: A sonnet has fourteen lines, usually in iambic pentameter.",
    "Lena: my knee hurts since the ski trip, the doctor wants an x-ray",
    "The museum bought a Roman coin hoard found under a motorway.",
    "They are thinking of adopting a second child next year.",
    "Sam: my laptop fan is so loud that I work with headphones now",
    "Der Zug nach Wien hatte zwei Stunden Verspätung.",
    "La empresa despidió a la mitad del equipo de ventas.",
    "Elle apprend le japonais parce que sa fille vit à Osaka.",
    "Grandpa was a lighthouse keeper before the war.",
    "The contract says four weeks' notice to the end of a month.",
    "We saw humpback whales from the ferry, at least five of them!",
)
# A deviation of zero would make every score infinite.
_DEVIATION_MIN: Final = 0.005
# Cosines of texts in one language deviate less than those of texts in several.
_WITHIN_LANGUAGE: Final = 0.8
# Cosines vary less within a language, so that what answers a question stands out by fewer
# deviations than in English; by how many was chosen on benchmarks/languages.tsv.
_LATIN_ALLOWANCE: Final = 0.5
_ENGLISH_MODEL_ALLOWANCE: Final = 1.0
# A model with a vocabulary for no other script is an English one.
_ENGLISH_ONLY: Final = frozenset({LATIN})


class Calibrations:
    """The calibration of each embedding model: from memory, else stored, else measured and stored.

    Concurrent calls wait for the same measurement; a cancelled call does not end it.
    """

    def __init__(self, store: VectorModels) -> None:
        self._store = store
        self._tasks: dict[str, asyncio.Task[Calibration]] = {}

    async def of(self, embedder: Embedder) -> Calibration:
        """The model's calibration. Raises StoreUnavailable and as `Embedder.embed_documents`."""
        model_id = embedder.model.id
        task = self._tasks.get(model_id)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(self._find(embedder))
            self._tasks[model_id] = task
        return await asyncio.shield(task)

    async def of_question(
        self, embedder: Embedder, script: str, language: str | None
    ) -> Calibration:
        """The calibration for questions in one language.

        script: as `main_script` names it. language: ISO 639-1, None if it is undetermined; counts
        in Latin script, whose languages are many. A local model's is measured once per process; for
        other models, which would charge for it, and where there are no samples it is that of the
        model.
        """
        model = embedder.model
        whole = await self.of(embedder)
        samples = samples_of(script, language)
        if samples is None or not model.is_local or script not in (model.scripts or ()):
            return whole
        key = f"{model.id} {language if script == LATIN else script}"
        task = self._tasks.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            allowance = _allowance(script, model.scripts)
            task = asyncio.create_task(_within_language(embedder, samples, whole, allowance))
            self._tasks[key] = task
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel running measurements. Idempotent."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _find(self, embedder: Embedder) -> Calibration:
        known = await self._store.calibration(embedder.model.id)
        if known is not None:
            return known
        measured = await measure_calibration(embedder)
        await self._store.store_calibration(embedder.model.id, measured)
        return measured


def samples_of(script: str, language: str | None) -> Samples | None:
    """The samples for questions in a language, None where there are none, as for English."""
    if script != LATIN:
        return SCRIPT_SAMPLES.get(script)
    return LANGUAGE_SAMPLES.get(language or "")


def _allowance(script: str, scripts: frozenset[str] | None) -> float:
    if script != LATIN:
        return 0.0
    return _ENGLISH_MODEL_ALLOWANCE if scripts == _ENGLISH_ONLY else _LATIN_ALLOWANCE


def is_readable(query: str, language: str | None, scripts: frozenset[str] | None) -> bool:
    """Whether cosines with a question say anything about a model that knows these scripts.

    An English model reads other languages only as far as there is a calibration for them. If the
    language is undetermined, letters with marks say that it is another one.
    """
    if not is_legible(query, scripts):
        return False
    if scripts != _ENGLISH_ONLY or language == "en":
        return True
    if language is None:
        return query.isascii()
    return samples_of(LATIN, language) is not None


async def measure_calibration(embedder: Embedder) -> Calibration:
    """Mean and deviation of the cosine of every question with every statement.

    Raises as `Embedder.embed_documents`.
    """
    cosines = await _cosines(embedder, QUESTIONS, STATEMENTS)
    return Calibration(float(cosines.mean()), max(float(cosines.std()), _DEVIATION_MIN))


async def _within_language(
    embedder: Embedder, samples: Samples, whole: Calibration, allowance: float
) -> Calibration:
    """From few pairs: their mean, and a deviation halfway to the one to be expected.

    allowance: deviations that the mean is lowered by.
    """
    cosines = await _cosines(embedder, *samples)
    expected = _WITHIN_LANGUAGE * whole.deviation
    deviation = max((float(cosines.std()) + expected) / 2, _DEVIATION_MIN)
    return Calibration(float(cosines.mean()) - allowance * deviation, deviation)


async def _cosines(
    embedder: Embedder, questions: Sequence[str], statements: Sequence[str]
) -> npt.NDArray[np.float64]:
    if embedder.model.is_local:
        # A local model may treat questions differently, and a call costs nothing.
        embedded = await asyncio.gather(*map(embedder.embed_query, questions))
        return _rows(embedded) @ _rows(await embedder.embed_documents(statements)).T
    # One call: the first query after a start waits for it, and one call per question would be
    # a burst at the provider (seen: 34 calls of two processes).
    embeddings = await embedder.embed_documents([*statements, *questions])
    count = len(statements)
    return _rows(embeddings[count:]) @ _rows(embeddings[:count]).T


def _rows(embeddings: Sequence[Embedding]) -> npt.NDArray[np.float64]:
    return np.array([embedding.vector for embedding in embeddings], dtype=np.float64)
