"""A conversation as the rows that search would scan, in memory: no server, so that a variant of the
ranking takes seconds. Texts are split, indexed and embedded by the modules of the service."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Final
from uuid import UUID
from zlib import crc32

import numpy as np
import numpy.typing as npt

from luma_memory.cli.conversations import item_blocks
from luma_memory.cli.evaluation.dataset import Conversation
from luma_memory.domain.search import WINDOW_ORDINAL, ScopeScan, microseconds
from luma_memory.domain.windows import Place, Turn
from luma_memory.pipeline.enrichment.windows import TURN_CHARACTERS, plan_windows
from luma_memory.pipeline.ingest.indexing import spoken
from luma_memory.pipeline.ingest.passages import split_passages
from luma_memory.pipeline.recall.scope_layout import ScoredRows, scored_by_scan
from luma_memory.pipeline.text.first_person import with_name
from luma_memory.pipeline.text.terms import (
    WEIGHTING,
    QueryTerm,
    TermWeighting,
    date_words,
    document_terms,
)
from luma_memory.providers.embedding.local import LocalEmbedder

Vectors = npt.NDArray[np.float32]  # [n, dimension], of length 1
_NO_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Indexing:
    """How a conversation is stored; the defaults are those of the service."""

    named: Callable[[str, str | None], str] = with_name  # a passage's text before it is embedded
    has_windows: bool = True
    has_days: bool = True  # whether a block is found by the words of its day
    weighting: TermWeighting = WEIGHTING


AS_BUILT: Final = Indexing()


def as_written(text: str, _speaker: str | None) -> str:
    """The text unchanged."""
    return text


@dataclass(slots=True)
class Embeddings:
    """Vectors of texts, each computed once."""

    embedder: LocalEmbedder
    known: dict[tuple[str, bool], array[float]] = field(default_factory=dict)

    async def passages(self, texts: Sequence[str]) -> Vectors:
        """[n, dimension] of texts to be found."""
        new = [text for text in dict.fromkeys(texts) if (text, False) not in self.known]
        for text, found in zip(new, await self.embedder.embed_documents(new), strict=True):
            self.known[text, False] = found.vector
        return _stacked([self.known[text, False] for text in texts])

    async def query(self, text: str) -> Vectors:
        """[dimension] of a question."""
        if (text, True) not in self.known:
            self.known[text, True] = (await self.embedder.embed_query(text)).vector
        vector: Vectors = _stacked([self.known[text, True]])[0]
        return vector


@dataclass(frozen=True, slots=True)
class _Row:
    number: int  # of its block
    ordinal: int
    text: str  # as it is embedded


@dataclass(frozen=True, slots=True, eq=False)
class MemoryScope:
    """The rows of one conversation."""

    item_ids: Sequence[str]  # of the item that each block holds, or a part of it
    contents: Sequence[str]
    rows: ScopeScan  # without scores
    vectors: Vectors  # [rows]
    postings: Mapping[int, tuple[npt.NDArray[np.intp], Vectors]]  # by index of the term

    def scored(
        self, vector: Vectors, terms: Sequence[QueryTerm], names: Sequence[str]
    ) -> ScoredRows:
        """What a scan returns for a question."""
        return scored_by_scan(
            ScopeScan(
                self.rows.block_ids,
                self.rows.ordinals,
                self.rows.sessions,
                self.rows.instants,
                self.rows.speakers,
                dense=array("f", (self.vectors @ vector).astype(np.float32).tobytes()),
                term_weights=[self._column(term.index) for term in terms],
                name_keys=array("i", [_key(name) for name in names]),
            )
        )

    def number(self, block_id: UUID) -> int:
        """Of the block, among its contents."""
        return block_id.int - 1

    def _column(self, index: int) -> array[float]:
        column = np.zeros(self.rows.row_count, dtype=np.float32)
        if index in self.postings:
            rows, weights = self.postings[index]
            column[rows] = weights
        return array("f", column.tobytes())


@dataclass(frozen=True, slots=True)
class _Block:
    content: str
    speaker: str | None
    session: str | None
    at: datetime


async def scope_of(
    conversation: Conversation, embeddings: Embeddings, indexing: Indexing = AS_BUILT
) -> MemoryScope:
    """The conversation in a scope of its own."""
    item_ids, blocks = [], []
    for part in item_blocks(conversation.items, user_id="evaluated"):
        body = part.body
        item_ids.append(part.item_id)
        at = body.get("occurred_at")
        blocks.append(
            _Block(
                body["content"],
                body.get("speaker"),
                body.get("session_id"),
                datetime.fromisoformat(at) if at else _NO_TIME,
            )
        )
    passages, postings = _passages(blocks, indexing)
    rows = [*passages, *(_windows(blocks) if indexing.has_windows else ())]
    return MemoryScope(
        item_ids=item_ids,
        contents=[block.content for block in blocks],
        rows=_columns(blocks, rows),
        vectors=await embeddings.passages([row.text for row in rows]),
        postings=postings,
    )


def _passages(
    blocks: Sequence[_Block], indexing: Indexing
) -> tuple[list[_Row], Mapping[int, tuple[npt.NDArray[np.intp], Vectors]]]:
    rows: list[_Row] = []
    found: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for number, block in enumerate(blocks):
        context = [date_words(block.at.date())] if indexing.has_days else []
        context += [block.speaker] if block.speaker else []
        for ordinal, span in enumerate(split_passages(block.content)):
            text = block.content[span.start : span.stop]
            terms = document_terms(text, context=context, weighting=indexing.weighting)
            for index, weight in zip(terms.indices, terms.weights, strict=True):
                found[index].append((len(rows), weight))
            named = indexing.named(text, block.speaker)
            rows.append(_Row(number, ordinal, spoken(named, speaker=block.speaker)))
    return rows, {
        index: (
            np.array([row for row, _ in entries], dtype=np.intp),
            np.array([weight for _, weight in entries], dtype=np.float32),
        )
        for index, entries in found.items()
    }


def _windows(blocks: Sequence[_Block]) -> Sequence[_Row]:
    by_session = sorted(
        (number for number, block in enumerate(blocks) if block.session is not None),
        key=lambda number: (str(blocks[number].session), blocks[number].at, number),
    )
    found: list[_Row] = []
    for _, members in groupby(by_session, key=lambda number: blocks[number].session):
        turns = [
            Turn(
                Place(blocks[number].at, _id(number)),
                revision=1,
                speaker=blocks[number].speaker,
                text=blocks[number].content[:TURN_CHARACTERS],
                is_before=False,
                window=None,
            )
            for number in members
        ]
        found += [
            _Row(window.block_id.int - 1, WINDOW_ORDINAL, window.text)
            for window in plan_windows(turns, embedding_model="").windows
        ]
    return found


def _columns(blocks: Sequence[_Block], rows: Sequence[_Row]) -> ScopeScan:
    of = [blocks[row.number] for row in rows]
    return ScopeScan(
        block_ids=b"".join(_id(row.number).bytes for row in rows),
        ordinals=array("i", [row.ordinal for row in rows]),
        sessions=array(
            "q", [crc32(block.session.encode()) if block.session else 0 for block in of]
        ),
        instants=array("q", [microseconds(block.at) for block in of]),
        speakers=array("q", [_speaker_key(block.speaker) for block in of]),
        dense=array("f"),
        term_weights=(),
        name_keys=array("i"),
    )


def _id(number: int) -> UUID:
    """Ids that rise with time, as those of the service."""
    return UUID(int=number + 1)


def _speaker_key(speaker: str | None) -> int:
    """As `memory_speaker_key`: the keys of the whole name and of its first word."""
    if not speaker:
        return 0
    return _key(speaker) << 32 | _key(speaker.split()[0]) & 0xFFFFFFFF


def _key(name: str) -> int:
    key = crc32(name.lower().encode())
    return key - 2**32 if key >= 2**31 else key


def _stacked(vectors: Sequence[array[float]]) -> Vectors:
    """As they are stored, in half precision."""
    found = np.array(vectors, dtype=np.float32).astype(np.float16).astype(np.float32)
    return found.reshape(len(vectors), -1)
