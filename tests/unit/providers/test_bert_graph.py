"""The graph computes what BERT is defined to compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.references.numpy_bert import sentence_vector
from tests.references.tiny_bert import (
    HEADS,
    LAYERS,
    MAX_TOKENS,
    WORDS,
    tiny_config,
    tiny_weights,
)

from luma_memory.domain.errors import SetupError
from luma_memory.providers.embedding.bert_config import Pooling
from luma_memory.providers.embedding.bert_graph import Precision, build_graph
from luma_memory.providers.embedding.encoder import open_session

IDS = np.random.default_rng(7).integers(4, len(WORDS), (20, MAX_TOKENS))


def vectors(
    ids: npt.NDArray[Any], pooling: Pooling = "mean", precision: Precision = "float32"
) -> npt.NDArray[Any]:
    session = open_session(build_graph(tiny_weights(), tiny_config(pooling), precision))
    # Padding after a text in its row is ignored.
    rows = np.concatenate([ids, np.full((len(ids), 3), -1)], axis=1)
    lengths = np.full(len(ids), ids.shape[1])
    found: npt.NDArray[Any] = session.run(None, {"texts": rows, "lengths": lengths})[0]
    return found


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("tokens", [1, 2, 7, MAX_TOKENS])
def test_float32_equals_the_definition(pooling: Pooling, tokens: int) -> None:
    ids = IDS[:, :tokens]
    expected = [
        sentence_vector(tiny_weights(), row, layers=LAYERS, heads=HEADS, pooling=pooling)
        for row in ids
    ]
    np.testing.assert_allclose(vectors(ids, pooling), expected, atol=2e-5)


def test_int8_stays_close_to_float32() -> None:
    exact, rounded = vectors(IDS), vectors(IDS, precision="int8")
    assert (exact * rounded).sum(axis=1).min() > 0.99
    assert not np.array_equal(exact, rounded)


def test_weights_that_do_not_fit_are_the_operators_to_fix() -> None:
    weights = tiny_weights()
    del weights["encoder.layer.1.output.dense.bias"]
    with pytest.raises(SetupError, match=r"encoder\.layer\.1\.output\.dense\.bias"):
        build_graph(weights, tiny_config())
