"""Describe faults of a data directory in one sentence, with the fix."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from luma_memory.domain.errors import SetupError
from luma_memory.postgres.embedded.account import SERVICE_ACCOUNT, name_of
from luma_memory.postgres.embedded.layout import Layout

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOT_A_FOLDER = frozenset({errno.EEXIST, errno.ENOTDIR})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM})
# Errors recognized in the output of PostgreSQL's programs; others are quoted.
_ERRORS_IN_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# With less free space than this, the log may lack the line that reports a full disk.
_LOG_LINE_BYTES = 64 * 1024
_SEVERE = re.compile(r"\b(?:FATAL|PANIC|ERROR|error):\s+(?P<reason>\S.*)")


@contextmanager
def described_in_one_sentence(root: Path) -> Iterator[None]:
    """Translate errors of work in the data directory `root` into a SetupError."""
    try:
        yield
    except OSError as error:
        raise _from_os_error(error, root) from error
    except subprocess.TimeoutExpired as error:
        raise SetupError(
            f"PostgreSQL did not get ready in data directory {root}: its program"
            f" {Path(error.cmd[0]).name} did not end within {error.timeout:.0f} s",
            code="embedded_postgres_failed",
        ) from error


def not_yours(root: Path, owner_uid: int) -> SetupError:
    owner = name_of(owner_uid)
    # Files created by root belong to the account that PostgreSQL runs as.
    run_as = "root" if owner == SERVICE_ACCOUNT else owner
    return SetupError(
        f"data directory {root} belongs to the user {owner}, this process runs as"
        f" {name_of(os.geteuid())}: run as {run_as} or choose another --data-dir",
        code="data_dir_not_yours",
    )


def from_output(root: Path, attempted: str, output: str) -> SetupError:
    """The error in a program's output. `attempted` ends the sentence "PostgreSQL could not …"."""
    number = next((code for code in _ERRORS_IN_OUTPUT if os.strerror(code) in output), None)
    if number is None and _free_bytes(root) < _LOG_LINE_BYTES:
        number = errno.ENOSPC
    if number is not None:
        return _from_os_error(OSError(number, os.strerror(number)), root)
    reason = last_meaningful_line(output)
    return SetupError(
        f"PostgreSQL could not {attempted} in data directory {root}: {reason}",
        code="embedded_postgres_failed",
    )


def last_meaningful_line(output: str) -> str:
    """The last error named in a program's output, without time and process; else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    reasons = [found["reason"] for line in lines if (found := _SEVERE.search(line))]
    return next(reversed(reasons or lines), "it gave no reason")


def _from_os_error(error: OSError, root: Path) -> SetupError:
    number = error.errno or 0
    if number in _FULL:
        return SetupError(
            f"the disk of data directory {root} is full: free some space or choose another"
            " --data-dir",
            code="data_dir_disk_full",
        )
    if number in _NOT_A_FOLDER:
        return SetupError(
            f"data directory {root} cannot be used, {_file_in_path(root)} is a file: choose"
            " another --data-dir",
            code="data_dir_not_a_directory",
        )
    if number == errno.EROFS:
        return _not_writable(root, "is on a read-only disk")
    if number in _NOT_ALLOWED:
        return _not_allowed(root)
    return SetupError(
        f"data directory {root} cannot be used: {error.strerror or error}",
        code="embedded_postgres_failed",
    )


def _not_allowed(root: Path) -> SetupError:
    try:
        owner_uid = root.stat().st_uid
    except OSError:  # absent, or in a folder this process cannot enter
        return _not_writable(root, f"cannot be reached or made by {name_of(os.geteuid())}")
    if owner_uid != os.geteuid():
        return not_yours(root, owner_uid)
    return _not_writable(root, f"cannot be written by {name_of(os.geteuid())}")


def _not_writable(root: Path, why: str) -> SetupError:
    return SetupError(
        f"data directory {root} {why}: make it writable or choose another --data-dir",
        code="data_dir_read_only",
    )


def _file_in_path(root: Path) -> Path:
    steps = (*reversed(root.parents), root)
    return next((place for place in steps if not place.is_dir()), Layout(root).cluster)


def _free_bytes(root: Path) -> int:
    try:
        disk = os.statvfs(root)
    except OSError:
        return _LOG_LINE_BYTES
    return disk.f_bavail * disk.f_frsize
