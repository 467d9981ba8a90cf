"""The built graph on disk, so that it is built once per machine and not once per process.

A cached file is the SHA-256 of the graph (32 bytes) followed by the graph. Its name is derived from
all inputs of the graph, so a file is never outdated, only unused. Files appear under their name
complete or not at all; one that does not match its digest is built again.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from luma_memory.providers.embedding.bert_config import BertConfig
from luma_memory.providers.embedding.bert_graph import (
    BUILDER_VERSION,
    Precision,
    build_graph,
    read_weights,
)
from luma_memory.providers.embedding.onnx_runtime import VERSION as RUNTIME_VERSION
from luma_memory.providers.embedding.packed_e5 import read_packed_weights
from luma_memory.providers.embedding.weights import ModelFiles, check_weights
from luma_memory.telemetry.events import Event, Level
from luma_memory.telemetry.logs import log_event

DIGEST_BYTES = 32
# Upgrades leave unused files of some 20 MB behind; a few are kept for versions that run side by
# side.
FILES_KEPT = 8


@dataclass(frozen=True, slots=True)
class ModelNotCached(Event):
    """The graph is built at every start until the operator makes the folder writable."""

    path: str
    reason: str

    @property
    def level(self) -> Level:
        return "warning"

    def message(self) -> str:
        return "Embedding model could not be cached; building it takes seconds at every start"


def default_cache_dir() -> Path:
    return platformdirs.user_cache_path("luma-memory")


def cached_graph(
    files: ModelFiles,
    config: BertConfig,
    precision: Precision = "int8",
    *,
    cache_dir: Path | None = None,
) -> bytes:
    """The model's graph, from the cache, or built and cached.

    Of several processes that need the same graph at once, one builds it and the others wait.
    A cache that cannot be written costs time and a warning, not the service.
    Raises SetupError if the weights cannot be used.
    """
    folder = cache_dir or default_cache_dir()
    path = folder / _file_name(files, config, precision)
    graph = _read(path)
    if graph is not None:
        return graph
    try:
        with _locked(folder):
            return _read(path) or _store(path, _build(files, config, precision))
    except OSError as error:
        log_event(ModelNotCached(path=str(folder), reason=str(error)))
        return _build(files, config, precision)


def _file_name(files: ModelFiles, config: BertConfig, precision: Precision) -> str:
    facts = (files.weights_sha256(), BUILDER_VERSION, RUNTIME_VERSION, config, precision)
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:20]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", files.name)[:60]
    return f"{name}-{precision}-{key}.graph"


def _build(files: ModelFiles, config: BertConfig, precision: Precision) -> bytes:
    check_weights(files)
    weights = read_packed_weights if files.packed else read_weights
    return build_graph(weights(files.weights), config, precision)


def _read(path: Path) -> bytes | None:
    """The graph in a cached file; None if there is none or it is damaged."""
    try:
        content = memoryview(path.read_bytes())
    except OSError:
        return None
    digest, graph = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return bytes(graph) if hashlib.sha256(graph).digest() == digest else None


def _store(path: Path, graph: bytes) -> bytes:
    """Put a graph into the cache under the lock, and return it, stored or not."""
    try:
        _write(path, hashlib.sha256(graph).digest() + graph)
        _prune(path.parent)
    except OSError as error:  # for example a full disk: the graph is still valid
        log_event(ModelNotCached(path=str(path), reason=str(error)))
    return graph


def _write(path: Path, content: bytes) -> None:
    # Not the library's temporary file, which only its owner may read: users share a cache.
    building = path.with_name(f".building-{secrets.token_hex(8)}")
    try:
        building.write_bytes(content)
        building.replace(path)
    except BaseException:
        building.unlink(missing_ok=True)
        raise


def _prune(folder: Path) -> None:
    newest_first = sorted(
        folder.glob("*.graph"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    # The lock is held: a partial file was left by a process that was killed.
    for path in [*newest_first[FILES_KEPT:], *folder.glob(".building-*")]:
        path.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Exclude other processes. The system frees the lock of a process that dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "build.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
