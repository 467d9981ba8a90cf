"""The built graph on disk: once per machine, never half, never in the way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.references.tiny_bert import tiny_folder

from luma_memory.domain.errors import SetupError
from luma_memory.providers.embedding import model_cache
from luma_memory.providers.embedding.bert_config import read_config
from luma_memory.providers.embedding.model_cache import FILES_KEPT, cached_graph
from luma_memory.providers.embedding.weights import ModelFiles, find_model

ASK_FOR_GRAPH = """
import sys
from pathlib import Path
from luma_memory.providers.embedding.encoder import load_encoder
print("ready", flush=True)
sys.stdin.readline()
load_encoder(Path(sys.argv[1]), cache_dir=Path(sys.argv[2]))
print("built" if "onnx" in sys.modules else "found")
"""


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return find_model(tiny_folder(tmp_path / "tiny model"))


def graph_of(files: ModelFiles, cache_dir: Path) -> bytes:
    return cached_graph(files, read_config(files.folder), cache_dir=cache_dir)


def cached_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.graph"))


def test_the_second_time_it_is_only_read(files: ModelFiles, tmp_path: Path) -> None:
    first = graph_of(files, tmp_path / "new" / "cache")
    (path,) = cached_files(tmp_path / "new" / "cache")
    written = path.stat()
    before = (written.st_ino, written.st_size, written.st_mtime_ns)
    assert graph_of(files, tmp_path / "new" / "cache") == first
    after = path.stat()  # but for the time it was read
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == before


def test_every_user_of_a_shared_cache_may_read_it(files: ModelFiles, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        graph_of(files, tmp_path)
    finally:
        os.umask(before)
    (path,) = cached_files(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_runtime_sends_no_telemetry(tmp_path: Path) -> None:
    """It would leave an identifier and a queue of events, as soon as it is imported."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {n: v for n, v in os.environ.items() if n != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home)}
    command = [sys.executable, "-c", "import luma_memory.providers.embedding.encoder"]
    subprocess.run(command, check=True, env=environment)
    assert list(home.rglob("*")) == []


def test_the_runtime_is_imported_by_the_one_file_that_silences_it() -> None:
    package = Path(model_cache.__file__).parents[2]
    importing = re.compile(r"^\s*(import|from) onnxruntime", re.MULTILINE)
    found = [path.name for path in package.rglob("*.py") if importing.search(path.read_text())]
    assert found == ["onnx_runtime.py"]


@pytest.mark.parametrize("left", [0, 10, 32, 5_000])
def test_a_damaged_file_is_built_again(files: ModelFiles, tmp_path: Path, left: int) -> None:
    whole = graph_of(files, tmp_path)
    (path,) = cached_files(tmp_path)
    path.write_bytes(path.read_bytes()[:left])
    assert graph_of(files, tmp_path) == whole
    assert path.read_bytes()[32:] == whole


def test_other_weights_and_another_precision_are_other_files(tmp_path: Path) -> None:
    for seed in (1, 2):
        files = find_model(tiny_folder(tmp_path / str(seed), seed))
        for precision in ("int8", "float32"):
            cached_graph(files, read_config(files.folder), precision, cache_dir=tmp_path)
    assert len(cached_files(tmp_path)) == 4


def test_of_two_processes_one_builds(files: ModelFiles, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASK_FOR_GRAPH, str(files.folder), str(tmp_path / "cache")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    responses = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(responses) == ["built", "found"]


def test_a_cache_that_cannot_be_made_costs_one_warning(files: ModelFiles, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with capture_logs() as lines:
        graph = graph_of(files, tmp_path / "file" / "cache")
    assert graph == graph_of(files, tmp_path)
    assert [line["log_level"] for line in lines] == ["warning"]


def test_a_full_disk_costs_one_warning(
    files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, capture_logs() as lines:
        patch.setattr(model_cache, "_write", disk_full)
        graph = graph_of(files, tmp_path)
    assert graph == graph_of(files, tmp_path)
    assert [line["reason"] for line in lines] == ["[Errno 28] No space left on device"]


def test_old_and_unfinished_files_are_cleared(files: ModelFiles, tmp_path: Path) -> None:
    for number in range(FILES_KEPT + 3):
        (tmp_path / f"old-{number}.graph").write_bytes(b"")
    (tmp_path / ".building-x").write_bytes(b"half")
    graph_of(files, tmp_path)
    assert len(cached_files(tmp_path)) == FILES_KEPT
    assert any(path.name.startswith("tiny-model-int8") for path in cached_files(tmp_path))
    assert not (tmp_path / ".building-x").exists()


def test_weights_without_their_digest_are_not_built_from(files: ModelFiles, tmp_path: Path) -> None:
    other = ModelFiles("pinned", files.folder, expected_weights_sha256="0" * 64)
    with pytest.raises(SetupError, match="SHA-256"):
        graph_of(other, tmp_path / "cache")
    assert cached_files(tmp_path / "cache") == []
