"""Names inside a data directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DATABASE = "luma_memory"
SUPERUSER = "postgres"
# No TCP port is opened: the number is only part of the socket's file name.
PORT = 5432
SOCKET_NAME = f".s.PGSQL.{PORT}"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below `root`, an absolute path without symbolic links."""

    root: Path

    @property
    def cluster(self) -> Path:
        """PGDATA: a finished cluster, or absent."""
        return self.root / "postgres"

    @property
    def pid_file(self) -> Path:
        return self.cluster / "postmaster.pid"

    @property
    def log(self) -> Path:
        return self.root / "postgres.log"

    @property
    def socket_folder(self) -> Path:
        """The preferred folder; `socket_folder.py` has the alternative."""
        return self.root / "postgres-socket"

    @property
    def change_lock(self) -> Path:
        return self.root / ".lock"

    @property
    def holders_lock(self) -> Path:
        return self.root / ".holders"

    @property
    def owner_lock(self) -> Path:
        return self.root / ".up"

    @property
    def server_lock(self) -> Path:
        return self.root / ".server"
