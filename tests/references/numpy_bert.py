"""BERT as in its paper and its first implementation, written plainly in numpy.

Shares no code with the package: it is the reference for what the package's graph must compute.
Source: Devlin et al., 2019; sentence pooling: Reimers and Gurevych, 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
erf = np.vectorize(math.erf, otypes=[np.float64])


def sentence_vector(
    weights: Mapping[str, Array],
    ids: Sequence[int],
    *,
    layers: int,
    heads: int,
    epsilon: float = 1e-12,
    pooling: str = "mean",
) -> Array:
    """The unit vector of one text, in double precision. ids: with the special tokens."""

    def tensor(name: str) -> Array:
        return weights[name].astype(np.float64)

    def dense(name: str, x: Array) -> Array:
        product: Array = x @ tensor(f"{name}.weight").T
        return product + tensor(f"{name}.bias")

    def normalize(name: str, x: Array) -> Array:
        deviation = np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)
        standard = (x - x.mean(axis=-1, keepdims=True)) / deviation
        scaled: Array = standard * tensor(f"{name}.weight")
        return scaled + tensor(f"{name}.bias")

    def split(x: Array) -> Array:  # [tokens, hidden] to [heads, tokens, size]
        return x.reshape(len(x), heads, -1).transpose(1, 0, 2)

    x = tensor("embeddings.word_embeddings.weight")[list(ids)]
    x = x + tensor("embeddings.position_embeddings.weight")[: len(ids)]
    x = normalize("embeddings.LayerNorm", x + tensor("embeddings.token_type_embeddings.weight")[0])
    for number in range(layers):
        layer = f"encoder.layer.{number}"
        query, key, value = (
            split(dense(f"{layer}.attention.self.{part}", x)) for part in ("query", "key", "value")
        )
        attention = softmax(query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])) @ value
        attended = attention.transpose(1, 0, 2).reshape(x.shape)
        x = normalize(
            f"{layer}.attention.output.LayerNorm",
            x + dense(f"{layer}.attention.output.dense", attended),
        )
        wide = dense(f"{layer}.intermediate.dense", x)
        gelu = wide * 0.5 * (1 + erf(wide / math.sqrt(2)))
        x = normalize(f"{layer}.output.LayerNorm", x + dense(f"{layer}.output.dense", gelu))
    pooled: Array = x.mean(axis=0) if pooling == "mean" else x[0]
    unit: Array = pooled / np.linalg.norm(pooled)
    return unit


def softmax(x: Array) -> Array:
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Array = raised / raised.sum(axis=-1, keepdims=True)
    return shares
