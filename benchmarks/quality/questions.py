"""Questions of conversations in memory, ranked by the modules of the service or a variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple

from benchmarks.quality.scopes import Embeddings, Indexing, MemoryScope, Vectors, scope_of
from luma_memory.cli.conversations import read_conversations
from luma_memory.cli.evaluation.dataset import Conversation, Query
from luma_memory.cli.evaluation.measures import MAIN_GROUP, Measures, score_query
from luma_memory.domain.search import Calibration
from luma_memory.pipeline.recall.calibration import measure_calibration
from luma_memory.pipeline.recall.events import query_events
from luma_memory.pipeline.recall.fusion import (
    ADDITIONS,
    WEIGHTS,
    Additions,
    Fusion,
    FusionWeights,
)
from luma_memory.pipeline.recall.request import Question
from luma_memory.pipeline.recall.scope_layout import ScopeLayout, ScoringRequest, lay_out
from luma_memory.pipeline.recall.speakers import ASSISTANT_ROLES, names_in, own_names
from luma_memory.pipeline.text.framing import without_framing
from luma_memory.pipeline.text.questions import query_terms, question_first
from luma_memory.pipeline.text.words import ANALYZER
from luma_memory.ports.models import QuestionReader

# As deep as `luma-memory eval` ranks.
_RANKED: Final = 50
# No speaker of a conversation, as the id of an application's user.
_USER_ID: Final = "evaluated"


@dataclass(frozen=True, slots=True)
class Ranking:
    """How a scope is ranked; the defaults are those of the service."""

    weights: FusionWeights = WEIGHTS
    additions: Additions = ADDITIONS
    borrows_terms: bool = True  # from neighboring turns
    you_is_assistant: bool = True


AS_BUILT: Final = Ranking()


@dataclass(frozen=True, slots=True)
class ReadQuestion:
    """A question as recall reads it."""

    query: Query
    question: Question
    vector: Vectors  # [dimension]


@dataclass(frozen=True, slots=True)
class Chat:
    """One conversation with its main questions."""

    conversation: Conversation
    questions: Sequence[ReadQuestion]


@dataclass(slots=True)
class QuestionSet:
    """The conversations of a file."""

    name: str
    chats: Sequence[Chat]
    embeddings: Embeddings
    calibration: Calibration
    _scopes: dict[Indexing, Sequence[MemoryScope]] = field(default_factory=dict)

    async def scopes(self, indexing: Indexing) -> Sequence[MemoryScope]:
        """The conversations, stored in this way."""
        if indexing not in self._scopes:
            self._scopes[indexing] = [
                await scope_of(chat.conversation, self.embeddings, indexing) for chat in self.chats
            ]
        return self._scopes[indexing]


class RankedBlock(NamedTuple):
    """A block of a result."""

    item_id: str
    z_score: float
    content: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """The best blocks of a question."""

    chat: int  # number of its conversation
    query: Query
    blocks: Sequence[RankedBlock]
    measures: Measures


async def read_set(path: Path, embeddings: Embeddings, reader: QuestionReader) -> QuestionSet:
    """The conversations of a file, with their main questions."""
    chats = []
    for conversation in read_conversations(path).conversations:
        read = [
            ReadQuestion(
                query,
                await _read(query.text, reader),
                await embeddings.query(without_framing(query.text)),
            )
            for query in conversation.queries
            if query.group == MAIN_GROUP and query.evidence
        ]
        chats.append(Chat(conversation, read))
    calibration = await measure_calibration(embeddings.embedder)
    return QuestionSet(path.stem, chats, embeddings, calibration)


async def ranked(questions: QuestionSet, indexing: Indexing, ranking: Ranking) -> Sequence[Ranked]:
    """All questions of a set, ranked."""
    found = []
    scopes = await questions.scopes(indexing)
    for number, (chat, scope) in enumerate(zip(questions.chats, scopes, strict=True)):
        sessions = {item.id: item.session for item in chat.conversation.items if item.session}
        for read in chat.questions:
            layout = _laid_out(scope, read, ranking)
            blocks = _best(scope, layout, questions.calibration, ranking)
            scored = score_query(read.query, [block.item_id for block in blocks], sessions)
            assert scored is not None
            found.append(Ranked(number, read.query, blocks, scored.measures))
    return found


class Quality(NamedTuple):
    """Means over questions."""

    recall_5: float
    recall_10: float
    ndcg_10: float


def quality(of: Sequence[Ranked]) -> Quality:
    """The three figures by which variants are compared."""
    return Quality(
        fmean(entry.measures.recall[5] for entry in of),
        fmean(entry.measures.recall[10] for entry in of),
        fmean(entry.measures.ndcg for entry in of),
    )


async def _read(text: str, reader: QuestionReader) -> Question:
    language = await reader.language(text)
    return Question(
        terms=query_terms(without_framing(text), language=language, known=[_USER_ID]),
        named=names_in(question_first(text)),
        own=own_names(_USER_ID),
        language=language,
        spans=await reader.times(text, None),
        events=await reader.events(text),
    )


def _laid_out(scope: MemoryScope, read: ReadQuestion, ranking: Ranking) -> ScopeLayout:
    question, named = read.question, read.question.named
    if not ranking.you_is_assistant:
        named = [name for name in named if name not in ASSISTANT_ROLES]
    rows = scope.scored(read.vector, question.terms, [*named, *question.own])
    return lay_out(
        rows,
        question.terms,
        ScoringRequest(
            named=rows.matched.name_keys[: len(named)],
            own=rows.matched.name_keys[len(named) :],
            spans=question.spans,
            events=query_events(question.events, question.terms),
            time_words=frozenset(
                term for span in question.spans for term in ANALYZER.terms(span.named_by)
            ),
        ),
    )


def _best(
    scope: MemoryScope, layout: ScopeLayout, calibration: Calibration, ranking: Ranking
) -> Sequence[RankedBlock]:
    scores = layout.scores
    if not ranking.borrows_terms and scores.own_lexical is not None:
        scores = replace(scores, lexical=scores.own_lexical)
    fusion = Fusion(
        scores, weights=ranking.weights, additions=ranking.additions, calibration=calibration
    )
    numbers = [
        (scope.number(layout.block_id(found.block)), found) for found in fusion.best(_RANKED)
    ]
    return [
        RankedBlock(scope.item_ids[number], found.parts.z_score, scope.contents[number])
        for number, found in numbers
    ]
