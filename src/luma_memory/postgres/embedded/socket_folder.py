"""The folder of the server's socket, which only the server's account (and root) can enter.

The folder is the only access control: any process that reaches the socket is a superuser.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from luma_memory.domain.errors import SetupError
from luma_memory.postgres.embedded.account import Account, let_pass, name_of
from luma_memory.postgres.embedded.layout import SOCKET_NAME, Layout

# sun_path has 108 bytes on Linux and 104 on macOS, the closing zero included.
_SOCKET_PATH_BYTES_MAX = 103
# Characters with a special meaning in the server's setting or in a client's list of hosts.
_SEPARATORS = frozenset(',"')


def choose_socket_folder(layout: Layout) -> Path:
    """Below the data directory, or a short path derived from it below the temporary folder."""
    if _is_usable(layout.socket_folder):
        return layout.socket_folder
    digest = hashlib.sha256(os.fsencode(layout.root)).hexdigest()[:16]
    return Path(tempfile.gettempdir()).resolve() / f"luma-memory-{digest}"


def prepare_socket_folder(folder: Path, account: Account) -> None:
    """Create it, or check that an existing one belongs to the account and is inaccessible to
    others.

    In a shared temporary folder another user may have created it first, to impersonate the
    server. Raises SetupError or OSError.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    let_pass(account, folder.parent)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
        account.own(folder)
        folder.chmod(0o700)
        found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid:
        raise SetupError(
            f"the folder {folder}, needed for PostgreSQL's socket, belongs to the user"
            f" {name_of(found.st_uid)}: remove it or choose a --data-dir with a shorter path",
            code="data_dir_not_yours",
        )


def remove_stale_socket(folder: Path) -> None:
    """Remove the socket of a killed server; PostgreSQL fails on it if its pid is in use again."""
    for name in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
        (folder / name).unlink(missing_ok=True)


def _is_usable(folder: Path) -> bool:
    path = str(folder / SOCKET_NAME)
    if not path.isprintable() or _SEPARATORS & set(path):
        return False
    return len(os.fsencode(path)) <= _SOCKET_PATH_BYTES_MAX
