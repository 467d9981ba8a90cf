"""Each place of the source that creates a file or a folder makes it private to its owner."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import luma_memory

SOURCE = Path(luma_memory.__file__).parent
# What other accounts may read, and why.
PUBLIC = {
    # The embedding model's prepared weights: the same for every user of the machine.
    ("providers/embedding/model_cache.py", "building.write_bytes"),
    ("providers/embedding/model_cache.py", "folder.mkdir"),
    ("providers/embedding/model_cache.py", "(folder / 'build.lock').open"),
    # The folder of another program's settings; the file in it is private.
    ("cli/connect.py", "path.parent.mkdir"),
}
# Python's own temporary folders have mode 0700, its temporary files 0600.


_CREATING = ("write_text", "write_bytes", "mkdir", "makedirs", "touch", "mkfifo")


def _creations(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that can create something: open to write, write_text, mkdir, touch …, also in a thread
    (`to_thread(path.write_text, text)`)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = {ast.unparse(part).rpartition(".")[2] for part in [node.func, *node.args]}
            if called.intersection(_CREATING) or ("open" in called and _writes(node)):
                yield node


def _writes(call: ast.Call) -> bool:
    texts = [ast.unparse(argument) for argument in [*call.args, *(k.value for k in call.keywords)]]
    is_mode = any(text.strip("'") in ("w", "wb", "a", "ab", "x", "xb", "w+b") for text in texts)
    return is_mode or any("O_CREAT" in text or text in ("mode", "flags") for text in texts)


def _is_private(call: ast.Call) -> bool:
    text = ast.unparse(call)
    if "os.devnull" in text:
        return True
    name = ast.unparse(call.func)
    if re.search(r"\b(?:mkdir|makedirs)\b", text):
        return "mode=448" in text or "mode=_PRIVATE_FOLDER" in text  # 0o700
    if name == "os.open":
        return text.endswith((", 384)", ", PRIVATE_MODE)"))  # 0o600
    return "opener=open_private" in text


def test_what_is_created_is_private() -> None:
    public = {
        (str(path.relative_to(SOURCE)), ast.unparse(call.func))
        for path in SOURCE.rglob("*.py")
        if re.search(r"open\(|write_|mkdir|makedirs|touch\(", text := path.read_text("utf-8"))
        for call in _creations(ast.parse(text))
        if not _is_private(call)
    }
    assert public == PUBLIC
