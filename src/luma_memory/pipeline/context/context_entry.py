"""Encode and decode cached contexts; values from the cache are not trusted.

The format is compressed JSON: anyone with access to the cache can write invalid values, and these
must only cause a miss. An entry contains its own key, so a value under another key is a miss, too.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from luma_memory.domain.cache import CacheKey
from luma_memory.domain.context import Citation, Context, ContextBlock

FORMAT: Final = 2
# A context of 200 long blocks has some hundred kilobytes. A larger value is rejected.
PLAIN_BYTES_MAX: Final = 8 << 20
# Level 1 costs 70 µs for an entry of 6.7 kB and compresses it to 1.4 kB; level 6 saves another 5 %.
# (zstd: 20 µs, the same size; not worth a dependency.)
_LEVEL: Final = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A context, and the state that it is valid for."""

    context: Context
    version: int  # of the scope before the computation
    computed_at: datetime  # by the database's clock
    valid_until: datetime  # from then on time alone may have changed the context


def encode_entry(entry: Entry, key: CacheKey) -> bytes:
    """The encoded entry."""
    context = entry.context
    plain = {
        "format": FORMAT,
        "key": str(key),
        "version": entry.version,
        "at": entry.computed_at.isoformat(),
        "until": entry.valid_until.isoformat(),
        "blocks": [_block_json(block) for block in context.blocks],
        "text": context.text,
        "citations": [[citation.mark, citation.block_id.hex] for citation in context.citations],
        "tokens": context.token_count,
        "by": context.synthesized_by,
        "relevant": context.is_relevant,
        "degraded": list(context.degraded),
    }
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    return zlib.compress(text.encode(), _LEVEL)


def decode_entry(value: bytes, key: CacheKey) -> Entry | None:
    """The entry for `key` in `value`; None if it is not valid."""
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(value, PLAIN_BYTES_MAX)
        if not unpacker.eof:
            return None
        plain = json.loads(text)
        if plain["format"] != FORMAT or plain["key"] != str(key):
            return None
        return _entry(plain)
    # Foreign bytes, wrong types and deep nesting fail in any of these ways.
    except (zlib.error, ValueError, TypeError, KeyError, AttributeError):
        return None
    except (OverflowError, RecursionError):
        return None


def _block_json(block: ContextBlock) -> dict[str, Any]:
    return {
        "id": block.id.hex,
        "content": block.content,
        "cut": block.is_cut,
        "score": block.score,
        "relevance": block.relevance,
        "at": block.occurred_at.isoformat(),
        "speaker": block.speaker,
        "session": block.session_id,
        "source": block.source,
        "title": block.title,
    }


def _entry(plain: Mapping[str, Any]) -> Entry:
    context = Context(
        blocks=[_block(block) for block in plain["blocks"]],
        text=_text(plain["text"]),
        citations=[Citation(int(mark), UUID(block_id)) for mark, block_id in plain["citations"]],
        token_count=int(plain["tokens"]),
        synthesized_by=_text_or_none(plain["by"]),
        is_relevant=bool(plain["relevant"]),
        degraded=[_text(part) for part in plain["degraded"]],
    )
    return Entry(context, int(plain["version"]), _instant(plain["at"]), _instant(plain["until"]))


def _block(plain: Mapping[str, Any]) -> ContextBlock:
    return ContextBlock(
        id=UUID(plain["id"]),
        content=_text(plain["content"]),
        is_cut=bool(plain["cut"]),
        score=_score(plain["score"]),
        relevance=_score(plain["relevance"]),
        occurred_at=_instant(plain["at"]),
        speaker=_text_or_none(plain["speaker"]),
        session_id=_text_or_none(plain["session"]),
        source=_text_or_none(plain["source"]),
        title=_text_or_none(plain["title"]),
    )


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("an instant without a zone cannot be compared")
    return instant


def _score(value: float) -> float:
    if not 0 <= float(value) <= 1:  # also NaN
        raise ValueError("a score lies between 0 and 1")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is a string")
    if not value.isascii():
        value.encode()  # a lone surrogate is no text
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else _text(value)
