"""A tiny model in the packed format: sizes, vocabulary, 4-bit weights."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from luma_memory.domain.enrichment import EmbeddingModel
from luma_memory.domain.errors import SetupError
from luma_memory.providers.embedding.bert_graph import build_graph
from luma_memory.providers.embedding.encoder import TextEncoder, open_session
from luma_memory.providers.embedding.packed_e5 import (
    read_packed_config,
    read_packed_tokenizer,
    read_packed_weights,
)
from luma_memory.providers.embedding.prompts import NO_PROMPTS, Prompts, read_prompts

SIZE, WIDE, POSITIONS = 32, 64, 16
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁cat", "s", "▁고양이"]


def quantized(values: npt.NDArray[np.float32]) -> bytes:
    """Blocks of 32 values that are steps of a sixteenth."""
    blocks = []
    for block in values.reshape(-1, 32):
        steps = np.rint(block * 16 + 8).astype(np.uint8)
        low, high = steps[:16], steps[16:]
        blocks.append(np.float16(1 / 16).tobytes() + (low | high << 4).astype(np.uint8).tobytes())
    return b"".join(blocks)


def tensors() -> dict[str, npt.NDArray[np.float32]]:
    """Multiples of a sixteenth, so that 4 bits hold them exactly."""
    random = np.random.default_rng(1)

    def matrix(rows: int, columns: int) -> npt.NDArray[np.float32]:
        return (random.integers(-8, 8, (rows, columns)) / 16).astype(np.float32)

    def vector(size: int) -> npt.NDArray[np.float32]:
        return random.normal(1, 0.1, size).astype(np.float32)

    found = {
        "emb.word": matrix(len(PIECES), SIZE),
        "emb.pos": random.normal(0, 0.1, (POSITIONS, SIZE)).astype(np.float32),
        "emb.type": np.zeros((2, SIZE), np.float32),
        "emb.ln.w": vector(SIZE),
        "emb.ln.b": vector(SIZE),
    }
    for part, (outputs, inputs) in {
        "q": (SIZE, SIZE),
        "k": (SIZE, SIZE),
        "v": (SIZE, SIZE),
        "ao": (SIZE, SIZE),
        "fi": (WIDE, SIZE),
        "fo": (SIZE, WIDE),
    }.items():
        found |= {f"l0.{part}.w": matrix(outputs, inputs), f"l0.{part}.b": vector(outputs)}
    for part in ("aln", "oln"):
        found |= {f"l0.{part}.w": vector(SIZE), f"l0.{part}.b": vector(SIZE)}
    return found


def packed() -> bytes:
    texts = [piece.encode() for piece in PIECES]
    places = np.cumsum([0, *map(len, texts)]).astype("<u4")
    scores = np.array([0, 0, 0, 0, -5, -1, -2, -1], "<f4")
    head = struct.pack(
        "<4sI7ifi", b"E5S1", 1, SIZE, 1, 2, WIDE, len(PIECES), POSITIONS, 2, 1e-12, 32
    )
    vocabulary = struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, int(places[-1]))
    vocabulary += places.tobytes() + scores.tobytes() + b"".join(texts)
    normalization = struct.pack("<iI", 0, 0)
    parts = {
        name: (1, quantized(value))
        if (name.endswith(".w") and "ln" not in name) or name == "emb.word"
        else (0, value.tobytes())
        for name, value in tensors().items()
    }
    directory_bytes = 4 + sum(2 + len(name) + 21 for name in parts)
    offset = len(head) + len(vocabulary) + len(normalization) + directory_bytes
    directory, body = struct.pack("<i", len(parts)), b""
    for name, (kind, data) in parts.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, tensors()[name].size, offset + len(body), len(data))
        body += data
    return head + vocabulary + normalization + directory + body


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(packed())
    return path


def test_weights_have_the_names_and_shapes_of_bert(path: Path) -> None:
    found, expected = read_packed_weights(path), tensors()
    names = {
        "embeddings.word_embeddings.weight": "emb.word",
        "embeddings.position_embeddings.weight": "emb.pos",
        "embeddings.LayerNorm.bias": "emb.ln.b",
        "encoder.layer.0.attention.self.value.weight": "l0.v.w",
        "encoder.layer.0.attention.output.LayerNorm.weight": "l0.aln.w",
        "encoder.layer.0.intermediate.dense.weight": "l0.fi.w",
        "encoder.layer.0.output.dense.weight": "l0.fo.w",
        "encoder.layer.0.output.dense.bias": "l0.fo.b",
    }
    for name, own in names.items():
        np.testing.assert_array_equal(found[name], expected[own])
    assert len(found) == len(expected)


def test_the_tokenizer_adds_sentence_tokens_and_normalizes(path: Path) -> None:
    tokenizer = read_packed_tokenizer(path)
    assert tokenizer.encode("cats  고양이").tokens == ["<s>", "▁cat", "s", "▁고양이", "</s>"]
    assert tokenizer.encode("ｃａｔ").tokens == ["<s>", "▁cat", "</s>"]


def test_a_prompt_precedes_the_text(path: Path) -> None:
    config = read_packed_config(path)
    assert (config.layers, config.heads, config.dimension, config.max_tokens) == (1, 2, 32, 16)
    graph = build_graph(read_packed_weights(path), config, "float32")
    model = EmbeddingModel("local/tiny", config.dimension, config.max_tokens)
    encoder = TextEncoder(model, read_packed_tokenizer(path), open_session(graph))
    assert encoder.encode(["s"], "cat") == encoder.encode(["cats"])
    assert encoder.encode(["s"]) != encoder.encode(["cats"])


@pytest.mark.parametrize("damage", [b"", b"E5S2" + packed()[4:], packed()[:150]])
def test_another_file_is_a_setup_error(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(damage)
    with pytest.raises(SetupError):
        read_packed_weights(path)
    with pytest.raises(SetupError):
        read_packed_tokenizer(path)


@pytest.mark.parametrize(
    ("document", "prompts"),
    [
        (None, NO_PROMPTS),
        ("{}", NO_PROMPTS),
        (
            '{"prompts": {"query": "query: ", "passage": "passage: "}}',
            Prompts("query: ", "passage: "),
        ),
        ('{"prompts": {"query": "Q ", "document": "D "}}', Prompts("Q ", "D ")),
    ],
)
def test_prompts_of_a_folder(tmp_path: Path, document: str | None, prompts: Prompts) -> None:
    if document is not None:
        (tmp_path / "config_sentence_transformers.json").write_text(document)
    assert read_prompts(tmp_path) == prompts


@pytest.mark.parametrize("document", ["", "[]", '{"prompts": {"query": 3}}', '{"prompts": 7}'])
def test_invalid_prompts_are_a_setup_error(tmp_path: Path, document: str) -> None:
    (tmp_path / "config_sentence_transformers.json").write_text(document)
    with pytest.raises(SetupError):
        read_prompts(tmp_path)
