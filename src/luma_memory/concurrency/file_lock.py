"""A file lock that ends with its process, however the process ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

_POLL_SECONDS = 0.02


class FileLock:
    """flock on one file. Two objects exclude each other, also within one process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._pid = 0

    @property
    def fd(self) -> int:
        """The open file, to be inherited by a program that is to keep the lock."""
        if self._fd is None:
            raise RuntimeError("the lock is not held")
        return self._fd

    @property
    def is_mine(self) -> bool:
        """Held, and by this process: not by the one it was forked from."""
        return self._fd is not None and self._pid == os.getpid()

    def acquire(self, *, shared: bool = False, wait_seconds: float = 0.0) -> bool:
        """Take the lock; False if another holder kept it for `wait_seconds`. Raises OSError."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        try:
            taken = _flock(fd, operation, until=time.monotonic() + wait_seconds)
        except BaseException:
            os.close(fd)
            raise
        if not taken:
            os.close(fd)
            return False
        self._fd, self._pid = fd, os.getpid()
        return True

    def release(self) -> None:
        """Release at once, including copies inherited by others. Idempotent.

        In a forked child only the child's copy is closed: the lock is the parent's.
        """
        if self.is_mine:
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        self.close()

    def close(self) -> None:
        """Close this process's copy only: programs that inherited the file keep the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def write(self, text: str) -> None:
        """Replace the file's text: what other processes can read about the holder."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, text.encode(), 0)


def is_locked(path: Path) -> bool:
    """Whether any process holds the lock now. Raises OSError."""
    probe = FileLock(path)
    if not probe.acquire():
        return True
    probe.release()
    return False


def _flock(fd: int, operation: int, *, until: float) -> bool:
    while True:
        try:
            fcntl.flock(fd, operation)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True
