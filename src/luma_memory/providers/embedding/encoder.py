"""Texts in, one unit vector each out, on the calling thread.

Each text runs alone and on one core, even among those that share a call (see `bert_graph.py`).
Texts of chat length are long enough to keep a core's vector units busy, so computing them side by
side gains nothing, while padding and the wake-ups of a shared thread pool cost time. Work is
parallel by calling from several threads (the session allows that), and a core that has nothing to
embed is idle: onnxruntime's own pool would spin on it, competing with PostgreSQL.

Measured on two cores (chat turns, 33 tokens on average, int8): two threads with one text at a time
495 texts/s, with four padded texts 571, with sixteen 427 to 538; one thread with the pool on both
cores 434 to 493. A little speed is given up for vectors that do not depend on the other texts in
the batch (see `bert_graph.py`).
"""

from __future__ import annotations

import os
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from luma_memory.domain.enrichment import Embedding, EmbeddingModel
from luma_memory.domain.errors import ProviderResponseInvalid, SetupError
from luma_memory.providers.embedding.bert_config import BertConfig, read_config
from luma_memory.providers.embedding.bert_graph import Precision
from luma_memory.providers.embedding.model_cache import cached_graph
from luma_memory.providers.embedding.onnx_runtime import InferenceSession, SessionOptions
from luma_memory.providers.embedding.packed_e5 import (
    PACKED_PROMPTS,
    read_packed_config,
    read_packed_tokenizer,
)
from luma_memory.providers.embedding.prompts import NO_PROMPTS, Prompts, read_prompts
from luma_memory.providers.embedding.weights import (
    ModelFiles,
    check_tokenizer,
    find_model,
)

# Longer texts are cut before they are tokenized: 256 tokens of any language are well within it.
CHARACTERS_PER_TOKEN_MAX = 32

# A vocabulary for a script has far more words of it; English ones have under 100 in any other
# script.
SCRIPT_TOKENS_MIN = 500

# Of the squared length: a thousandth of the length.
_SQUARE_TOLERANCE = 2e-3


class TextEncoder:
    """Tokenizer and graph of one model. May be called from several threads at once."""

    def __init__(
        self,
        model: EmbeddingModel,
        tokenizer: Tokenizer,
        session: InferenceSession,
        prompts: Prompts = NO_PROMPTS,
    ) -> None:
        self.model = model
        self.prompts = prompts
        self._tokenizer = tokenizer
        self._session = session

    def encode(self, texts: Sequence[str], prompt: str = "") -> list[Embedding]:
        """The vectors of any strings, including blank ones and ones with NULs or lone surrogates;
        in order.

        Releases the interpreter lock during the computation, once for all texts. The same text
        always has the same vector. Raises ProviderResponseInvalid if one is not finite or has no
        length.
        """
        if not texts:
            return []
        readable = [self._readable(prompt + text) for text in texts]
        limit = self.model.max_tokens
        # A tokenizer without sentence tokens returns nothing for a blank text: use padding then.
        found = [ids or [0] for ids in self._token_ids([head for head, _ in readable])]
        # The last token ends the sentence.
        kept = [ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]] for ids in found]
        return [
            Embedding(vector=vector, token_count=len(ids), truncated=cut or len(ids) < len(all_ids))
            for vector, ids, all_ids, (_, cut) in zip(
                self._vectors(kept), kept, found, readable, strict=True
            )
        ]

    def tokens(self, text: str) -> int:
        """The number of tokens of the whole text for this model, without the sentence tokens."""
        (ids,) = self._token_ids([_encodable(text)])
        return max(0, len(ids) - 2)

    def _readable(self, text: str) -> tuple[str, bool]:
        # Blanks are no tokens: a text must not seem empty because it begins with many.
        text = " ".join(text.split())
        limit = self.model.max_tokens * CHARACTERS_PER_TOKEN_MAX
        return _encodable(text[:limit]), len(text) > limit

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        # Unlike the method for one text, this one releases the interpreter lock.
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def _vectors(self, texts: Sequence[Sequence[int]]) -> list[array[float]]:
        lengths = np.array([len(ids) for ids in texts], np.int64)
        rows = np.zeros((len(texts), lengths.max()), np.int64)
        for row, ids in zip(rows, texts, strict=True):
            row[: len(ids)] = ids
        (values,) = self._session.run(None, {"texts": rows, "lengths": lengths})
        # Also the check for NaN and infinity: they are not close to anything.
        if not (np.abs(np.square(values).sum(axis=1) - 1.0) < _SQUARE_TOLERANCE).all():
            raise ProviderResponseInvalid("The local embedding model made a vector without length.")
        return [array("f", row.tobytes()) for row in values]


def load_encoder(
    source: str | Path | None = None,
    *,
    precision: Precision = "int8",
    cache_dir: Path | None = None,
    names_speakers: bool = True,
) -> TextEncoder:
    """Find a model (see `weights.find_model`), build its graph if necessary, and load it.

    names_speakers: whether passages for the pinned models name their speakers (see
    `pipeline.text.first_person`); passages for other models never do.

    With the graph in the cache about 0.1 s; building it takes about a second more.
    Raises SetupError, in one sentence, for anything the operator can fix.
    """
    # Batches are tokenized on the calling thread as well, and not by a thread pool of the
    # library, which has no other setting.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    files = find_model(source)
    check_tokenizer(files)
    if files.packed:
        config, prompts = read_packed_config(files.weights), PACKED_PROMPTS
        tokenizer = read_packed_tokenizer(files.weights)
    else:
        config, prompts = read_config(files.folder), read_prompts(files.folder)
        tokenizer = _load_tokenizer(files)
    graph = cached_graph(files, config, precision, cache_dir=cache_dir)
    model = _describe(files, config, precision, _scripts(tokenizer.get_vocab()))
    if prompts != NO_PROMPTS and not files.pinned:
        # Earlier versions ignored the folder's prompts.
        model = replace(model, id=f"{model.id}-prompted")
    if files.pinned and names_speakers:
        model = replace(model, id=f"{model.id}-named", names_speakers=True, replaces=model.id)
    return TextEncoder(model, tokenizer, open_session(graph), prompts)


def open_session(graph: bytes) -> InferenceSession:
    """A session that works on the calling thread only and keeps little memory between calls."""
    options = SessionOptions()
    options.intra_op_num_threads = 1  # no pool, so nothing that spins
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only; they are raised as well
    # A memory plan is kept for every text length seen; it buys no speed here.
    options.enable_mem_pattern = False
    return InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _load_tokenizer(files: ModelFiles) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(files.tokenizer))
    except Exception as error:  # the library raises nothing more special
        raise SetupError(f"{files.tokenizer} is not a tokenizer: {error}.") from error
    # The published files configure padding and truncation to 128 tokens; neither is used here.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _scripts(vocabulary: Iterable[str]) -> frozenset[str]:
    """The scripts in which the vocabulary has words, and not only single letters."""
    pieces = (re.sub(r"[\W\d_]", "", token) for token in vocabulary if not token.isascii())
    counts = Counter(
        unicodedata.name(piece[0], "").split(" ", 1)[0] for piece in pieces if len(piece) > 1
    )
    known = (script for script, count in counts.items() if count >= SCRIPT_TOKENS_MIN)
    return frozenset({"LATIN", *known})


def _describe(
    files: ModelFiles, config: BertConfig, precision: Precision, scripts: frozenset[str]
) -> EmbeddingModel:
    # Two folders may have the same name: models that are not pinned include their digest.
    mark = "" if files.pinned else f"-{files.weights_sha256()[:8]}"
    return EmbeddingModel(
        id=f"local/{files.name}{mark}-{precision}",
        dimension=config.dimension,
        max_tokens=config.max_tokens,
        scripts=scripts,
    )


def _encodable(text: str) -> str:
    """Lone surrogates cannot be written as UTF-8: each becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
