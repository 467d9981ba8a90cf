"""The operating-system account the server runs as, and its access to folders.

PostgreSQL refuses to run as root. There, its programs run as an unprivileged account, which must be
able to pass through the folders above the data directory and above the installed programs.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import structlog

from luma_memory.domain.errors import SetupError

# The same name as in the package of the programs, so that a machine gets only one account.
SERVICE_ACCOUNT = "pgserver"
_USERADD_SECONDS = 30.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """The account the server runs as. `switched`: not that of this process, which then is root."""

    name: str
    uid: int
    gid: int
    switched: bool

    @property
    def switch_to(self) -> tuple[int, int, list[int]] | tuple[None, None, None]:
        """Arguments user, group and extra_groups of `subprocess`."""
        return (self.uid, self.gid, []) if self.switched else (None, None, None)

    def own(self, path: Path) -> None:
        """Make the account the owner of a file created by this process."""
        if self.switched:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def server_account() -> Account:
    """This process's account, or for root the service account, created if missing.

    Raises SetupError if it cannot be created.
    """
    uid = os.geteuid()
    if uid != 0:
        return Account(name_of(uid), uid, os.getegid(), switched=False)
    entry = _find(SERVICE_ACCOUNT) or _create(SERVICE_ACCOUNT)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switched=True)


def name_of(uid: int) -> str:
    """The account's name, or its number if it has none (usual in containers)."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def let_pass(account: Account, folder: Path) -> None:
    """Let the account enter `folder` and those above it; listing them stays forbidden.

    Adds the execute bit for others where it is missing, as root only. Raises SetupError.
    """
    if not account.switched:
        return
    for place in (folder, *folder.parents):
        mode = place.stat().st_mode
        if not mode & stat.S_IXOTH and place.stat().st_uid != account.uid:
            _add_mode(place, stat.S_IXOTH, account)
            _log.info("Folder made passable for the database account.", folder=str(place))


def let_read(account: Account, tree: Path) -> None:
    """Let the account read and run installed files, which are public software, not user data.

    Needed if root installed them with a strict umask. Raises SetupError.
    """
    for path in (tree, *tree.rglob("*")):
        mode = path.stat().st_mode
        required = stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
        if mode & required != required:
            _add_mode(path, required, account)
    _log.info("Installed programs made readable for the database account.", folder=str(tree))


def _add_mode(path: Path, bits: int, account: Account) -> None:
    try:
        path.chmod(stat.S_IMODE(path.stat().st_mode) | bits)
    except OSError as error:
        raise SetupError(
            f"the account {account.name}, which PostgreSQL runs as, cannot enter {path}, and that"
            " cannot be changed: choose another place or run as an ordinary user",
            code="embedded_postgres_failed",
        ) from error


def _find(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _create(name: str) -> pwd.struct_passwd:
    # Not the package's ensure_user_exists: it creates a login account with a shell, and of two
    # processes that start at the same moment one fails.
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    cause: Exception | None = None
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_USERADD_SECONDS)  # noqa: S603 - fixed words
    except (OSError, subprocess.SubprocessError) as error:
        cause = error  # no error if another process created the account concurrently
    entry = _find(name)
    if entry is None:
        raise SetupError(
            f"PostgreSQL does not run as root, and its account {name} could not be created:"
            f" create it (useradd --system {name}) or run as an ordinary user",
            code="embedded_postgres_failed",
        ) from cause
    return entry
