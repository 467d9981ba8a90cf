"""The configuration of a BERT model, as far as its graph depends on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from luma_memory.domain.errors import SetupError

Pooling = Literal["mean", "cls"]

# The modules that follow the transformer in a sentence-transformers folder. The graph always
# normalizes.
KNOWN_MODULES = {"Transformer", "Pooling", "Normalize"}


@dataclass(frozen=True, slots=True)
class BertConfig:
    """Parameters that cannot be derived from the shapes of the weights."""

    layers: int
    heads: int
    dimension: int
    epsilon: float  # of every layer normalization
    pooling: Pooling
    max_tokens: int  # special tokens included


def read_config(folder: Path) -> BertConfig:
    """Read a sentence-transformers folder's configuration files.

    Raises SetupError for a model whose graph this package cannot build (another architecture,
    activation, pooling or a further module) and for invalid files.
    """
    try:
        return _read(folder)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise SetupError(
            f"The configuration of the embedding model in {folder} cannot be used: {error!r}."
        ) from error


def _read(folder: Path) -> BertConfig:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    _require(folder, "model_type", config["model_type"], "bert")
    _require(folder, "hidden_act", config["hidden_act"], "gelu")
    _require(
        folder,
        "position_embedding_type",
        config.get("position_embedding_type", "absolute"),
        "absolute",
    )
    _refuse_further_modules(folder)
    return BertConfig(
        layers=int(config["num_hidden_layers"]),
        heads=int(config["num_attention_heads"]),
        dimension=int(config["hidden_size"]),
        epsilon=float(config["layer_norm_eps"]),
        pooling=_pooling(folder),
        max_tokens=_max_tokens(folder, int(config["max_position_embeddings"])),
    )


def _require(folder: Path, key: str, found: object, needed: str) -> None:
    if found != needed:
        raise SetupError(
            f"The embedding model in {folder} has {key} {found!r}; the local provider builds only "
            f"models with {needed!r}."
        )


def _refuse_further_modules(folder: Path) -> None:
    modules = _optional(folder / "modules.json", [])
    unknown = {entry["type"].rpartition(".")[2] for entry in modules} - KNOWN_MODULES
    if unknown:
        raise SetupError(
            f"The embedding model in {folder} has modules the local provider cannot build: "
            f"{', '.join(sorted(unknown))}."
        )


def _pooling(folder: Path) -> Pooling:
    modes = _optional(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    chosen = {key for key, on in modes.items() if key.startswith("pooling_mode_") and on}
    if chosen == {"pooling_mode_mean_tokens"}:
        return "mean"
    if chosen == {"pooling_mode_cls_token"}:
        return "cls"
    raise SetupError(
        f"The embedding model in {folder} pools by {sorted(chosen)}; the local provider knows "
        "the mean of the tokens and the CLS token."
    )


def _max_tokens(folder: Path, positions: int) -> int:
    settings = _optional(folder / "sentence_bert_config.json", {})
    return min(int(settings.get("max_seq_length") or positions), positions)


def _optional(path: Path, default: Any) -> Any:
    return json.loads(path.read_text("utf-8")) if path.is_file() else default
