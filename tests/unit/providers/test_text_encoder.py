"""Any string has a vector, and the same one every time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.references.tiny_bert import MAX_TOKENS, tiny_encoder, tiny_tokenizer, tiny_weights
from tokenizers import processors

from luma_memory.domain.enrichment import Embedding
from luma_memory.domain.errors import ProviderResponseInvalid
from luma_memory.providers.embedding.encoder import TextEncoder


def encode(encoder: TextEncoder, text: str) -> Embedding:
    (found,) = encoder.encode([text])
    return found


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        "\x00",
        "a\x00b",
        "\ud800 a \udfff",
        "😀👩‍👩‍👧",
        "記憶",
        "a" * 100_000,
        "\x85\u200b",
        "é" * 50,
    ],
)
def test_odd_texts_have_unit_vectors(text: str) -> None:
    found = encode(tiny_encoder(), text)
    assert math.isclose(math.hypot(*found.vector), 1, abs_tol=1e-5)
    assert found.vector.typecode == "f"
    assert 2 <= found.token_count <= MAX_TOKENS


def test_long_texts_are_cut_and_say_so() -> None:
    encoder = tiny_encoder()
    full = encode(encoder, "a b " * 7)
    assert (full.token_count, full.truncated) == (MAX_TOKENS, False)
    longer = encode(encoder, "a b " * 8)
    assert (longer.token_count, longer.truncated) == (MAX_TOKENS, True)
    assert longer.vector == full.vector


def test_leading_blanks_do_not_hide_the_text() -> None:
    encoder = tiny_encoder()
    assert encode(encoder, "\n" * 50_000 + "red").vector == encode(encoder, "red").vector
    assert encode(encoder, "red").vector != encode(encoder, "").vector


def test_a_surrogate_reads_as_a_question_mark() -> None:
    encoder = tiny_encoder()
    assert encode(encoder, "a \ud83d").vector == encode(encoder, "a ?").vector


def test_tokens_counts_the_whole_text() -> None:
    encoder = tiny_encoder()
    assert encoder.tokens("") == 0
    assert encoder.tokens("a b \udfff red") == 4
    assert encoder.tokens("a b " * 500) == 1000


def test_a_vector_that_is_not_finite_is_refused() -> None:
    weights = tiny_weights()
    weights["encoder.layer.1.output.LayerNorm.bias"][0] = np.nan
    with pytest.raises(ProviderResponseInvalid):
        tiny_encoder(weights, "float32").encode(["b", "a"])


def test_texts_of_one_call_have_the_vectors_they_have_alone() -> None:
    """Also in int8, whose scales would be those of the longest and loudest text."""
    encoder = tiny_encoder()
    texts = ["a", "", "red " * 100, "b a b", "\ud800", "a"]
    assert encoder.encode(texts) == [encode(encoder, text) for text in texts]
    assert encoder.encode([]) == []


def test_a_tokenizer_that_frames_no_sentence_leaves_no_text_without_a_vector() -> None:
    """Nothing is left of a blank text; the mean of no tokens failed all texts beside it."""
    framed = tiny_encoder()
    tokenizer = tiny_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    encoder = TextEncoder(framed.model, tokenizer, framed._session)
    for found in encoder.encode(["", "red", "\u200b"]):
        assert math.isclose(math.hypot(*found.vector), 1, abs_tol=1e-5)
