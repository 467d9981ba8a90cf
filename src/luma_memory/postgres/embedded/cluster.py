"""The cluster on disk: created in one step, or validated."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import structlog

from luma_memory.domain.errors import SetupError
from luma_memory.postgres.embedded import faults
from luma_memory.postgres.embedded.layout import SUPERUSER, Layout
from luma_memory.postgres.embedded.programs import Programs

# About a second on a good disk; a slow card or a busy machine may take a hundred times that.
_INITDB_SECONDS = 300.0
_UNFINISHED = "postgres.init-"
_BUILTIN_LOCALE_SINCE = 17
_SYNC_METHOD_SINCE = 17

_log = structlog.get_logger(__name__)


def check_cluster(layout: Layout, *, major: int, owner_uid: int) -> bool:
    """Whether a cluster exists that this version and account can run; False: none yet.

    Changes nothing. Raises SetupError if there is one that cannot be run, or other files in its
    place; OSError if it cannot be read.
    """
    try:
        found_owner = layout.cluster.stat().st_uid
    except FileNotFoundError:
        return False
    if found_owner != owner_uid:
        raise faults.not_yours(layout.cluster, found_owner)
    if not any(layout.cluster.iterdir()):
        return False
    _check_major(layout, major)
    return True


def create_cluster(
    layout: Layout, programs: Programs, *, major: int, durable: bool, keep_open: int
) -> None:
    """Create a cluster in a temporary folder and rename it in one step. Call under the change lock.

    keep_open: the change lock's file. initdb inherits it: if this process is killed, the lock stays
    until initdb has ended too, so that no other process removes its folder.
    Raises SetupError, OSError or TimeoutExpired.
    """
    _remove_unfinished(layout)
    aside = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=layout.root))
    try:
        programs.account.own(aside)
        _run_initdb(layout, programs, aside, _initdb_options(major, durable=durable), keep_open)
        aside.rename(layout.cluster)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    _sync_folder(layout.root)
    _log.info("PostgreSQL data directory created.", folder=str(layout.cluster), major=major)


def _check_major(layout: Layout, major: int) -> None:
    try:
        found = (layout.cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError as error:
        raise SetupError(
            f"data directory {layout.root} has a folder {layout.cluster.name} that is not a"
            " PostgreSQL cluster: move it away or choose another --data-dir",
            code="data_dir_not_a_cluster",
        ) from error
    if found != str(major):
        raise SetupError(
            f"data directory {layout.root} was made by PostgreSQL {found}, this is PostgreSQL"
            f" {major}: choose another --data-dir, and take the data over with pg_dump of version"
            f" {found}",
            code="data_dir_wrong_major",
        )


def _remove_unfinished(layout: Layout) -> None:
    # Only folders that were never moved into place: their clusters have never been started.
    for rest in layout.root.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(rest)


def _initdb_options(major: int, *, durable: bool) -> list[str]:
    options = ["--username", SUPERUSER, "--encoding=UTF8", "--data-checksums", "--no-instructions"]
    # Access to the socket's folder is the authentication; there are no network connections.
    options += ["--auth-local=trust", "--auth-host=reject"]
    if major >= _BUILTIN_LOCALE_SINCE:
        # PostgreSQL's own tables: the same order of text on every machine, also after an upgrade
        # of the system's library, and on systems that do not have C.UTF-8.
        options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    else:
        options += ["--locale=C.UTF-8"]
    if not durable:
        options += ["--no-sync"]
    elif major >= _SYNC_METHOD_SINCE and sys.platform == "linux":
        # One call for the file system instead of one per file, of which there are a thousand: 0.7
        # s, not 4 s.
        options += ["--sync-method=syncfs"]
    return options


def _run_initdb(
    layout: Layout, programs: Programs, target: Path, options: list[str], keep_open: int
) -> None:
    command = programs.command("initdb", "--pgdata", str(target), *options)
    result = programs.run(command, timeout_seconds=_INITDB_SECONDS, keep_open=(keep_open,))
    if result.returncode != 0:
        raise faults.from_output(layout.root, "create its files", result.stdout)


def _sync_folder(folder: Path) -> None:
    """Make the rename durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
