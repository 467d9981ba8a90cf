"""An entry comes back as it went in, and nothing else comes back at all."""

from __future__ import annotations

import json
import random
import zlib
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.domain.cache import context_key
from luma_memory.domain.context import Citation, Context, ContextBlock
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.context.context_entry import (
    PLAIN_BYTES_MAX,
    Entry,
    decode_entry,
    encode_entry,
)

KEY = context_key(Scope("default", "ada"), ["Where?"])
NOW = datetime(2026, 3, 2, 12, 0, 0, 123457, tzinfo=UTC)

texts = st.text(st.characters(codec="utf-8"))
instants = st.datetimes(timezones=st.just(UTC))
blocks = st.builds(
    ContextBlock,
    id=st.uuids(),
    content=texts,
    is_cut=st.booleans(),
    score=st.floats(0, 1),
    relevance=st.floats(0, 1),
    occurred_at=instants,
    speaker=st.none() | texts,
    session_id=st.none() | texts,
    source=st.none() | texts,
    title=st.none() | texts,
)
contexts = st.builds(
    Context,
    blocks=st.lists(blocks, max_size=4),
    text=texts,
    citations=st.lists(st.builds(Citation, st.integers(1, 200), st.uuids()), max_size=4),
    token_count=st.integers(0, 100_000),
    synthesized_by=st.none() | texts,
    is_relevant=st.booleans(),
    degraded=st.lists(texts, max_size=2),
)
entries = st.builds(
    Entry,
    context=contexts,
    version=st.integers(0, 2**62),
    computed_at=instants,
    valid_until=instants,
)


@given(entries)
def test_an_entry_comes_back_as_it_went_in(entry: Entry) -> None:
    assert decode_entry(encode_entry(entry, KEY), KEY) == entry


@given(entries, st.integers(0, 2**32), st.integers(1, 8))
def test_spoilt_bytes_are_no_entry(entry: Entry, seed: int, count: int) -> None:
    noise = random.Random(seed)
    value = bytearray(encode_entry(entry, KEY))
    for _ in range(count):
        value[noise.randrange(len(value))] ^= 1 << noise.randrange(8)
    assert decode_entry(bytes(value), KEY) in (None, entry)  # two changes may undo each other


@given(st.binary(max_size=200))
def test_foreign_bytes_are_no_entry(value: bytes) -> None:
    assert decode_entry(value, KEY) is None
    assert decode_entry(zlib.compress(value), KEY) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.data())
def test_json_of_another_shape_is_no_entry_and_no_error(data: st.DataObject) -> None:
    plain = json.loads(zlib.decompress(encode_entry(_entry(), KEY)))
    place, name = data.draw(
        st.sampled_from([(plain, name) for name in plain] + [(plain["blocks"][0], "score")])
    )
    place[name] = data.draw(json_values)
    decoded = decode_entry(zlib.compress(json.dumps(plain).encode()), KEY)
    assert decoded is None or isinstance(decoded, Entry)


def _entry(**changes: object) -> Entry:
    block = ContextBlock(
        UUID(int=1), "content", False, 0.5, 0.9, NOW, "Ada", "chat-1", "chat", "A title"
    )
    context = Context([block], "text", [Citation(1, block.id)], 10, None, True, [])
    values: dict[str, object] = {
        "context": context,
        "version": 7,
        "computed_at": NOW,
        "valid_until": NOW + timedelta(hours=1),
    }
    return Entry(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 1),
        ("key", "context:0:0"),
        ("until", "2026-03-02T12:00:00"),  # without a zone
        ("until", 5),
        ("version", None),
        ("text", 5),
        ("text", "\ud800"),
        ("blocks", {"id": 1}),
        ("citations", [[1]]),
    ],
)
def test_what_a_later_step_could_not_use_is_no_entry(name: str, value: object) -> None:
    plain = json.loads(zlib.decompress(encode_entry(_entry(), KEY)))
    plain[name] = value
    assert decode_entry(zlib.compress(json.dumps(plain).encode()), KEY) is None


def test_a_bomb_is_no_entry() -> None:
    assert decode_entry(zlib.compress(b" " * (PLAIN_BYTES_MAX + 1)), KEY) is None
    assert decode_entry(zlib.compress(b"[" * 100_000), KEY) is None


def test_instants_of_other_zones_are_the_same_instants() -> None:
    there = timezone(timedelta(hours=5, minutes=45))
    entry = _entry(valid_until=NOW.astimezone(there))
    decoded = decode_entry(encode_entry(entry, KEY), KEY)
    assert decoded is not None
    assert decoded.valid_until == NOW
