"""A BERT small enough to be made in a test: random weights, a vocabulary of a few words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from luma_memory.domain.enrichment import EmbeddingModel
from luma_memory.providers.embedding.bert_config import BertConfig, Pooling
from luma_memory.providers.embedding.bert_graph import Precision, build_graph
from luma_memory.providers.embedding.encoder import TextEncoder, open_session

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh", "red", "green", "blue", "?"]
HIDDEN, WIDE, LAYERS, HEADS, MAX_TOKENS = 32, 64, 2, 4, 16


def tiny_config(pooling: Pooling = "mean") -> BertConfig:
    return BertConfig(
        layers=LAYERS,
        heads=HEADS,
        dimension=HIDDEN,
        epsilon=1e-12,
        pooling=pooling,
        max_tokens=MAX_TOKENS,
    )


def tiny_weights(seed: int = 1) -> dict[str, npt.NDArray[Any]]:
    random = np.random.default_rng(seed)

    def some(*shape: int, around: float = 0.0) -> npt.NDArray[Any]:
        return random.normal(around, 0.3, shape).astype(np.float32)

    weights: dict[str, npt.NDArray[Any]] = {
        "embeddings.word_embeddings.weight": some(len(WORDS), HIDDEN),
        "embeddings.position_embeddings.weight": some(MAX_TOKENS, HIDDEN),
        "embeddings.token_type_embeddings.weight": some(2, HIDDEN),
    }
    normalized = ["embeddings.LayerNorm"]
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        normalized += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        shapes = {
            "attention.self.query": (HIDDEN, HIDDEN),
            "attention.self.key": (HIDDEN, HIDDEN),
            "attention.self.value": (HIDDEN, HIDDEN),
            "attention.output.dense": (HIDDEN, HIDDEN),
            "intermediate.dense": (WIDE, HIDDEN),
            "output.dense": (HIDDEN, WIDE),
        }
        for name, shape in shapes.items():
            weights[f"{layer}.{name}.weight"] = some(*shape)
            weights[f"{layer}.{name}.bias"] = some(shape[0])
    for name in normalized:
        weights[f"{name}.weight"] = some(HIDDEN, around=1.0)
        weights[f"{name}.bias"] = some(HIDDEN)
    return weights


def tiny_tokenizer() -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def tiny_encoder(
    weights: dict[str, npt.NDArray[Any]] | None = None,
    precision: Precision = "int8",
    kind: type[TextEncoder] = TextEncoder,
) -> TextEncoder:
    graph = build_graph(weights or tiny_weights(), tiny_config(), precision)
    model = EmbeddingModel(id="local/tiny", dimension=HIDDEN, max_tokens=MAX_TOKENS)
    return kind(model, tiny_tokenizer(), open_session(graph))


def tiny_folder(folder: Path, seed: int = 1) -> Path:
    """The same model as sentence-transformers lays it out on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tiny_weights(seed), folder / "model.safetensors")
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(tiny_settings()))
    return folder


def tiny_settings() -> dict[str, Any]:
    return {
        "model_type": "bert",
        "hidden_act": "gelu",
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "hidden_size": HIDDEN,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": MAX_TOKENS,
    }
