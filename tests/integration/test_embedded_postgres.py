"""The embedded PostgreSQL, with real servers, real kills, real full disks and real accounts."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import psutil
import pytest
from structlog.testing import capture_logs
from tests.support.machine_load import within
from tests.support.postgres_majors import every_postgres

from luma_memory.concurrency.file_lock import is_locked
from luma_memory.domain.errors import SetupError
from luma_memory.postgres.embedded import EmbeddedPostgres, account
from luma_memory.postgres.embedded.account import let_read, server_account
from luma_memory.postgres.embedded.layout import SOCKET_NAME, Layout
from luma_memory.postgres.embedded.postmaster import read_pid_file
from luma_memory.postgres.embedded.programs import Programs, programs_of
from luma_memory.postgres.embedded.socket_folder import choose_socket_folder
from luma_memory.settings import Settings

RETRY_SECONDS = 60.0
UNPRIVILEGED_UID = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to switch accounts")

# The shell is a child of the server process that runs the statement.
KILL_MYSELF = "COPY (SELECT 'secretword') TO PROGRAM 'kill -9 $PPID'"

# A process that holds the server until its standard input ends.
HOLDER = """
import sys
from pathlib import Path
from luma_memory.domain.errors import SetupError
from luma_memory.postgres.embedded import EmbeddedPostgres

server = EmbeddedPostgres(Path(sys.argv[1]), exclusive=sys.argv[2] == "up", durable=False)
sys.stdin.readline()
try:
    print("answer", server.start(), flush=True)
except SetupError as error:
    print("answer", error.code, error, flush=True)
sys.stdin.read()
server.stop()
"""

# A process that joins and leaves again and again, and looks each time whether the server is there.
VISITOR = """
import asyncio, sys
from pathlib import Path
import asyncpg
from luma_memory.postgres.embedded import EmbeddedPostgres

async def look(dsn):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval("SELECT 1")
    finally:
        await connection.close()

seen = 0
for _ in range(int(sys.argv[2])):
    with EmbeddedPostgres(Path(sys.argv[1]), durable=False) as server:
        seen += asyncio.run(look(server.start()))
print("answer", seen, flush=True)
"""


def _same_imports(environment: Mapping[str, str]) -> dict[str, str]:
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


class Process:
    """A Python process that runs a script on a data directory."""

    def __init__(self, script: str, data_dir: Path, argument: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", script, str(data_dir), argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_same_imports(os.environ),
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.output: list[str] = []

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def response(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output.append(line)
            if line.startswith("answer "):
                return line.removeprefix("answer ").strip()
        raise AssertionError(f"ended without an answer: {self.output}")

    def leave(self) -> int:
        """Let it end in order; its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(RETRY_SECONDS)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(RETRY_SECONDS)

    def close(self) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _fast_disk() -> str | None:
    """Memory where there is plenty: some fifty clusters are made or copied here."""
    shared_memory = Path("/dev/shm")
    if shared_memory.is_dir() and shutil.disk_usage(shared_memory).free > 1 << 30:
        return str(shared_memory)
    return None


@pytest.fixture
def place() -> Iterator[Path]:
    """A closed folder with a space in its short path; what runs below it at the end is stopped."""
    # Not tmp_path: its parents are closed again by any other test run of the same user.
    folder = Path(tempfile.mkdtemp(prefix="luma pg ", dir=_fast_disk())).resolve()
    yield folder
    for pid_file in folder.rglob("postmaster.pid"):
        _quit_server(pid_file.parent.parent)
    shutil.rmtree(folder)


@pytest.fixture
def data_dir(place: Path) -> Path:
    """Not there yet."""
    return place / "data"


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="luma pg ", dir=_fast_disk()) as folder:
        with throw_away(Path(folder)):
            pass
        yield Path(folder)


@pytest.fixture
def made_dir(template: Path, data_dir: Path) -> Path:
    """With a cluster, stopped: for tests that are not about making one."""
    subprocess.run(["cp", "-a", str(template), str(data_dir)], check=True)
    return data_dir


@pytest.fixture
def processes() -> Iterator[Callable[..., Process]]:
    with ExitStack() as stack:

        def start(script: str, data_dir: Path, argument: str = "") -> Process:
            process = Process(script, data_dir, argument)
            stack.callback(process.close)
            return process

        yield start


@pytest.fixture
def holders(processes: Callable[..., Process]) -> Callable[..., Process]:
    """Start a process that joins at once."""

    def start(data_dir: Path, kind: str = "share") -> Process:
        holder = processes(HOLDER, data_dir, kind)
        holder.go()
        return holder

    return start


@pytest.fixture
def small_disk(place: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a disk of some megabytes."""
    with ExitStack() as stack:

        def mount(size_mb: int) -> Path:
            target = place / "disk"
            target.mkdir()
            _mount("-t", "tmpfs", "-o", f"size={size_mb}m,mode=0755", "tmpfs", str(target))
            stack.callback(_unmount, target)
            return target

        yield mount


@pytest.fixture
def ordinary_user() -> Iterator[pwd.struct_passwd]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to create an ordinary user")
    name = f"lumatest{os.getpid()}"
    command = ["useradd", "--system", "--no-create-home", "--user-group", name]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no user can be created here: {error}")
    try:
        yield pwd.getpwnam(name)
    finally:
        subprocess.run(["userdel", name], check=True, capture_output=True)


def throw_away(data_dir: Path, **options: Any) -> EmbeddedPostgres:
    return EmbeddedPostgres(data_dir, durable=False, **options)


async def fetch(dsn: str, query: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def refused(data_dir: Path, **options: Any) -> SetupError:
    with pytest.raises(SetupError) as caught:
        throw_away(data_dir, **options).start()
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    return caught.value


def server_pid(data_dir: Path) -> int:
    found = read_pid_file(Layout(data_dir).pid_file)
    assert found is not None
    return found.pid


def runs(data_dir: Path) -> bool:
    return is_locked(Layout(data_dir).server_lock)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def glob(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + RETRY_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def _quit_server(data_dir: Path) -> None:
    found = read_pid_file(Layout(data_dir).pid_file)
    if found is not None and runs(data_dir):
        os.kill(found.pid, signal.SIGQUIT)
        wait_until(lambda: not runs(data_dir))


def _mount(*arguments: str) -> None:
    try:
        subprocess.run(["mount", *arguments], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounting a small disk is not permitted here: {error}")


def _unmount(target: Path) -> None:
    _quit_server(target / "data")
    subprocess.run(["umount", str(target)], check=True, capture_output=True)


def _programs(major: int = 18) -> Programs:
    return programs_of(major, server_account())


@contextmanager
def as_user(
    user: pwd.struct_passwd, work: Callable[[Connection[Any, Any]], None]
) -> Iterator[Connection[Any, Any]]:
    """Run `work` in a process of that user; talk to it through the connection.

    Forked and not started anew, because root's Python may be closed to the user.
    """
    _skip_if_closed_to_others(_programs().folder)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def change_and_work() -> None:
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        try:
            work(theirs)
        except SetupError as error:
            theirs.send((error.code, str(error)))

    process = context.Process(target=change_and_work)
    with warnings.catch_warnings():
        # Threads of earlier tests may idle; the child uses nothing they could hold.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    try:
        with ours:
            yield ours
        process.join(RETRY_SECONDS)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()


def _skip_if_closed_to_others(folder: Path) -> None:
    closed = [way for way in (folder, *folder.parents) if not way.stat().st_mode & stat.S_IXOTH]
    if closed:
        pytest.skip(f"the installed programs lie below a closed folder: {closed[-1]}")


def _start_and_report(data_dir: Path) -> Callable[[Connection[Any, Any]], None]:
    def work(parent: Connection[Any, Any]) -> None:
        throw_away(data_dir).start()
        parent.send(("started", ""))

    return work


class TestOneProcess:
    async def test_makes_a_database_and_keeps_it(self, data_dir: Path) -> None:
        with EmbeddedPostgres(data_dir) as server:
            dsn = server.start()
            await fetch(dsn, "CREATE TABLE kept AS SELECT 'héllo' AS word")
        assert not runs(data_dir)

        with EmbeddedPostgres(data_dir) as server:
            assert server.start() == dsn
            assert await fetch(dsn, "SELECT word FROM kept") == "héllo"
            assert await fetch(dsn, "SELECT current_database()") == "luma_memory"

    @every_postgres
    async def test_runs_each_installed_version(self, data_dir: Path, major: int) -> None:
        with throw_away(data_dir, major=major) as server:
            dsn = server.start()
            version = await fetch(dsn, "SELECT current_setting('server_version_num')::int / 10000")
            assert version == major
            await fetch(dsn, "CREATE EXTENSION vector")
            assert await fetch(dsn, "SELECT '[1,2]'::halfvec(2) <=> '[1,2]'::halfvec(2)") == 0
            assert await fetch(dsn, "SELECT upper('é')") == "É"

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("listen_addresses", ""),
            ("fsync", "on"),
            ("synchronous_commit", "on"),
            ("full_page_writes", "on"),
            ("data_checksums", "on"),
            ("server_encoding", "UTF8"),
            ("TimeZone", "UTC"),
            ("max_connections", "100"),
            ("jit", "off"),
        ],
    )
    async def test_settings(self, shared_dsn: str, setting: str, value: str) -> None:
        assert await fetch(shared_dsn, f"SELECT current_setting('{setting}')") == value

    async def test_throw_away_clusters_do_not_wait_for_the_disk(self, made_dir: Path) -> None:
        with throw_away(made_dir) as server:
            assert await fetch(server.start(), "SELECT current_setting('fsync')") == "off"

    async def test_a_dropped_database_is_made_again(self, made_dir: Path) -> None:
        with throw_away(made_dir) as server:
            maintenance = server.start().replace("/luma_memory?", "/postgres?")
            await fetch(maintenance, "DROP DATABASE luma_memory")
        with throw_away(made_dir) as server:
            assert await fetch(server.start(), "SELECT 1") == 1

    def test_stop_is_harmless_before_start_and_when_repeated(self, data_dir: Path) -> None:
        server = throw_away(data_dir)
        server.stop()
        assert not data_dir.exists()
        assert server.start() == server.start()
        server.stop()
        server.stop()
        assert not runs(data_dir)
        server.start()
        assert runs(data_dir)
        server.stop()

    async def test_stops_within_seconds_with_clients_connected(self, made_dir: Path) -> None:
        server = throw_away(made_dir)
        connection = await asyncpg.connect(server.start())
        await connection.execute("BEGIN; CREATE TABLE never (id int)")
        started = time.monotonic()
        await asyncio.to_thread(server.stop)
        assert time.monotonic() - started < within(5)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await connection.execute("SELECT 1")
        connection.terminate()

    async def test_a_client_that_does_not_end_is_cut_off(self, made_dir: Path) -> None:
        server = throw_away(made_dir, stop_grace_seconds=0.5)
        dsn = server.start()
        await fetch(dsn, "CREATE TABLE kept AS SELECT 7 AS number")
        connection = await asyncpg.connect(dsn)
        os.kill(connection.get_server_pid(), signal.SIGSTOP)
        with capture_logs() as logs:
            await asyncio.to_thread(server.stop)
        connection.terminate()
        assert not runs(made_dir)
        assert any("did not stop in time" in line["event"] for line in logs)
        with throw_away(made_dir) as again:
            assert await fetch(again.start(), "SELECT number FROM kept") == 7

    async def test_stops_in_order_while_it_recovers_from_a_crash(self, made_dir: Path) -> None:
        server = throw_away(made_dir)
        dsn = server.start()
        # So much to recover that the server is stopped before it has finished.
        await fetch(dsn, "CREATE TABLE much AS SELECT generate_series(1, 300000) AS number")
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await fetch(dsn, KILL_MYSELF)
        with capture_logs() as logs:
            await asyncio.to_thread(server.stop)
        assert logs == []
        assert not runs(made_dir)

    async def test_no_statement_and_no_value_reaches_the_log(self, made_dir: Path) -> None:
        with throw_away(made_dir) as server:
            dsn = server.start()
            await fetch(dsn, "CREATE TABLE t (word text UNIQUE)")
            await fetch(dsn, "INSERT INTO t VALUES ('secretword')")
            for wrong in (
                "INSERT INTO t VALUES ('secretword')",
                "SELECT 'secretword'::int",
                "SELECT secretword",
            ):
                with pytest.raises(asyncpg.PostgresError):
                    await fetch(dsn, wrong)
            # A statement whose own server process is killed under it: the server would name it.
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
                await fetch(dsn, KILL_MYSELF)
        log = Layout(made_dir).log.read_text()
        assert "was terminated by signal 9" in log
        assert "secretword" not in log

    def test_a_large_log_is_set_aside(self, data_dir: Path) -> None:
        log = Layout(data_dir).log
        data_dir.mkdir()
        log.write_text("old\n" * 2_000_000)
        with throw_away(data_dir):
            assert log.stat().st_size < 100_000
            assert log.with_name("postgres.log.1").read_text().startswith("old")

    def test_other_files_in_the_directory_stay(self, data_dir: Path) -> None:
        data_dir.mkdir()
        (data_dir / "note.txt").write_text("mine")
        with throw_away(data_dir):
            assert (data_dir / "note.txt").read_text() == "mine"

    def test_a_cluster_moved_elsewhere_behind_a_link(self, place: Path, made_dir: Path) -> None:
        cluster = Layout(made_dir).cluster
        cluster.symlink_to(cluster.rename(place / "moved"))
        with throw_away(made_dir) as server, capture_logs() as logs:
            assert asyncio.run(fetch(server.start(), "SELECT 1")) == 1
            server.stop()
        assert logs == []
        assert not runs(made_dir)

    def test_settings_of_the_environment_do_not_disturb(
        self, made_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("PGDATA", "PGPORT", "PGHOST", "PGOPTIONS", "LC_ALL"):
            monkeypatch.setenv(name, "1")
        with throw_away(made_dir) as server:
            assert asyncio.run(fetch(server.start(), "SELECT 1")) == 1

    def test_the_default_directory_is_named_and_not_made(
        self, monkeypatch: pytest.MonkeyPatch, place: Path
    ) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", str(place))
        monkeypatch.setenv("HOME", str(place))
        assert Settings().data_folder.name == "luma-memory"
        assert Settings().data_folder.is_relative_to(place)
        assert not Settings().data_folder.exists()

    def test_importing_warns_of_nothing(self) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "XDG_RUNTIME_DIR"}
        subprocess.run(
            [sys.executable, "-W", "error", "-c", "import luma_memory.postgres.embedded"],
            check=True,
            env=_same_imports(environment),
        )


@pytest.fixture(scope="module")
def shared_dsn() -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory(prefix="luma pg ", dir=_fast_disk()) as folder,
        EmbeddedPostgres(Path(folder)) as server,
    ):
        yield server.start()


class TestSocket:
    def test_lies_in_a_folder_closed_to_others(self, made_dir: Path) -> None:
        with throw_away(made_dir):
            folder = Layout(made_dir).socket_folder
            assert (folder / SOCKET_NAME).is_socket()
            assert mode_of(folder) == 0o700
            assert folder.stat().st_uid == server_account().uid

    @needs_root
    def test_another_user_cannot_connect(self, made_dir: Path) -> None:
        path = Layout(made_dir).socket_folder / SOCKET_NAME

        def knock(parent: Connection[Any, Any]) -> None:
            with socket.socket(socket.AF_UNIX) as client:
                try:
                    client.connect(str(path))
                except PermissionError:
                    parent.send("denied")
                else:
                    parent.send("open")

        with throw_away(made_dir), as_user(pwd.getpwuid(UNPRIVILEGED_UID), knock) as child:
            assert child.recv() == "denied"

    @pytest.mark.parametrize("name", ["d" * 100, "com,ma", 'quo"te', "tab\there"])
    def test_a_path_unfit_for_a_socket(self, place: Path, made_dir: Path, name: str) -> None:
        data_dir = made_dir.rename(place / name)
        with throw_away(data_dir) as server:
            dsn = server.start()
            folder = choose_socket_folder(Layout(data_dir))
            try:
                assert not folder.is_relative_to(place)
                assert mode_of(folder) == 0o700
                assert asyncio.run(fetch(dsn, "SELECT 1")) == 1
            finally:
                server.stop()
                shutil.rmtree(folder)

    @needs_root
    def test_a_folder_taken_by_another_user_is_not_used(self, place: Path) -> None:
        data_dir = place / ("d" * 100)
        folder = choose_socket_folder(Layout(data_dir))
        folder.mkdir()
        os.chown(folder, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
        try:
            error = refused(data_dir)
            assert error.code == "data_dir_not_yours"
            assert str(folder) in str(error)
            assert not runs(data_dir)
        finally:
            shutil.rmtree(folder)


class TestSharing:
    def test_the_last_one_out_stops_the_server(self, made_dir: Path) -> None:
        first, second = throw_away(made_dir), throw_away(made_dir)
        assert first.start() == second.start()
        pid = server_pid(made_dir)
        first.stop()
        assert runs(made_dir)
        assert server_pid(made_dir) == pid
        second.stop()
        assert not runs(made_dir)

    async def test_many_at_once_make_one_cluster_and_one_server(
        self, data_dir: Path, processes: Callable[..., Process]
    ) -> None:
        crowd = [processes(HOLDER, data_dir, "share") for _ in range(6)]
        for one in crowd:
            one.go()
        responses = {one.response() for one in crowd}
        assert len(responses) == 1
        assert await fetch(responses.pop(), "SELECT 1") == 1
        output = "".join(line for one in crowd for line in one.output)
        assert output.count("data directory created") == 1
        assert Layout(data_dir).log.read_text().count("starting PostgreSQL") == 1
        assert [one.leave() for one in crowd] == [0] * 6
        assert not runs(data_dir)

    def test_coming_and_going_never_meets_a_stopping_server(
        self, data_dir: Path, processes: Callable[..., Process]
    ) -> None:
        crowd = [processes(VISITOR, data_dir, "6") for _ in range(3)]
        assert [one.response() for one in crowd] == ["6"] * 3
        assert [one.leave() for one in crowd] == [0] * 3
        assert not runs(data_dir)

    def test_a_second_owner_is_sent_away(
        self, made_dir: Path, holders: Callable[..., Process]
    ) -> None:
        owner = holders(made_dir, "up")
        dsn = owner.response()
        error = refused(made_dir, exclusive=True)
        assert error.code == "data_dir_in_use"
        assert str(error) == (
            f"data directory {made_dir} is already in use by `luma-memory up`, process"
            f" {owner.pid}; stop that one or choose another --data-dir"
        )
        with throw_away(made_dir) as sharing:
            assert sharing.start() == dsn
            assert owner.leave() == 0
            assert runs(made_dir)
        assert not runs(made_dir)
        with throw_away(made_dir, exclusive=True):
            assert runs(made_dir)

    def test_ctrl_c_does_not_reach_the_server(
        self, made_dir: Path, holders: Callable[..., Process]
    ) -> None:
        holder = holders(made_dir)
        holder.response()
        pid = server_pid(made_dir)
        assert os.getsid(pid) != holder.pid
        os.killpg(holder.pid, signal.SIGINT)
        assert holder.leave() != 0
        with throw_away(made_dir):
            assert server_pid(made_dir) == pid

    def test_a_forked_child_does_not_stop_its_parents_server(self, made_dir: Path) -> None:
        with throw_away(made_dir) as server:
            child = multiprocessing.get_context("fork").Process(target=server.stop)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                child.start()
            child.join(RETRY_SECONDS)
            assert child.exitcode == 0
            assert runs(made_dir)
            with throw_away(made_dir):
                pass
            assert runs(made_dir)
        assert not runs(made_dir)


class TestAfterACrash:
    async def test_a_killed_owner_leaves_the_server_to_the_next(
        self, made_dir: Path, holders: Callable[..., Process]
    ) -> None:
        owner = holders(made_dir, "up")
        dsn = owner.response()
        await fetch(dsn, "CREATE TABLE kept AS SELECT 7 AS number")
        pid = server_pid(made_dir)
        owner.kill()
        with throw_away(made_dir, exclusive=True) as server:
            assert server.start() == dsn
            assert server_pid(made_dir) == pid
            assert await fetch(dsn, "SELECT number FROM kept") == 7
        assert not runs(made_dir)

    async def test_joins_a_server_that_restarts_itself(self, made_dir: Path) -> None:
        with throw_away(made_dir) as first:
            dsn = first.start()
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
                await fetch(dsn, KILL_MYSELF)
            with throw_away(made_dir) as second:
                assert await fetch(second.start(), "SELECT 1") == 1

    async def test_a_killed_server_is_started_again_and_recovers(self, made_dir: Path) -> None:
        with throw_away(made_dir) as first:
            dsn = first.start()
            await fetch(dsn, "CREATE TABLE kept AS SELECT 7 AS number")
            killed = server_pid(made_dir)
            os.kill(killed, signal.SIGKILL)
            with throw_away(made_dir) as second:
                assert second.start() == dsn
                assert server_pid(made_dir) != killed
                assert await fetch(dsn, "SELECT number FROM kept") == 7
            assert runs(made_dir)  # the first still holds it
        assert not runs(made_dir)

    @pytest.mark.parametrize("namesake", ["other program", "other server"])
    async def test_the_number_of_a_killed_server_is_in_use_again(
        self, place: Path, made_dir: Path, namesake: str
    ) -> None:
        layout = Layout(made_dir)
        with throw_away(made_dir) as server:
            await fetch(server.start(), "CREATE TABLE kept AS SELECT 7 AS number")
            killed = server_pid(made_dir)
            rests = {path: path.read_text() for path in (layout.pid_file, _socket_lock(made_dir))}
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: not runs(made_dir))
        with _living(namesake, place) as pid:
            for path, text in rests.items():
                path.write_text(text.replace(str(killed), str(pid)))
                server_account().own(path)
            with throw_away(made_dir) as again:
                assert await fetch(again.start(), "SELECT number FROM kept") == 7
            assert psutil.pid_exists(pid)

    def test_a_server_started_by_other_means_is_left_alone(self, made_dir: Path) -> None:
        with throw_away(made_dir):
            pass
        with _started_by_hand(made_dir) as pid:
            error = refused(made_dir)
            assert error.code == "data_dir_in_use"
            assert f"process {pid}" in str(error)
            assert server_pid(made_dir) == pid

    @pytest.mark.parametrize("also_initdb", [True, False])
    async def test_killed_while_the_cluster_is_made(
        self, data_dir: Path, holders: Callable[..., Process], also_initdb: bool
    ) -> None:
        holder = holders(data_dir)
        wait_until(lambda: any(data_dir.glob("postgres.init-*/PG_VERSION")))
        children = psutil.Process(holder.pid).children(recursive=True)
        holder.kill()
        assert not Layout(data_dir).cluster.exists()
        if not also_initdb:
            assert is_locked(Layout(data_dir).change_lock)
        for child in children if also_initdb else []:
            with suppress(psutil.NoSuchProcess):  # ends with its parent
                child.kill()
        with throw_away(data_dir) as server:
            assert await fetch(server.start(), "SELECT 1") == 1
        assert glob(data_dir, "postgres.init-*") == []


class TestRefusals:
    def test_another_major_version(self, data_dir: Path) -> None:
        with throw_away(data_dir, major=16):
            pass
        error = refused(data_dir, major=18)
        assert error.code == "data_dir_wrong_major"
        assert "PostgreSQL 16" in str(error)
        assert "PostgreSQL 18" in str(error)
        assert "--data-dir" in str(error)
        with throw_away(data_dir, major=16):
            assert runs(data_dir)

    def test_a_version_that_is_not_installed(self, data_dir: Path) -> None:
        assert refused(data_dir, major=9).code == "embedded_postgres_missing"

    @pytest.mark.parametrize("below", [".", "deeper/data"])
    def test_a_file(self, place: Path, below: str) -> None:
        (place / "file").write_text("mine")
        error = refused(place / "file" / below)
        assert error.code == "data_dir_not_a_directory"
        assert f"{place / 'file'} is a file" in str(error)
        assert (place / "file").read_text() == "mine"

    def test_files_where_the_cluster_belongs(self, data_dir: Path) -> None:
        cluster = Layout(data_dir).cluster
        cluster.mkdir(parents=True)
        (cluster / "note.txt").write_text("mine")
        server_account().own(cluster)
        assert refused(data_dir).code == "data_dir_not_a_cluster"
        assert [path.name for path in cluster.iterdir()] == ["note.txt"]

    def test_another_reason_is_quoted_from_the_log(self, made_dir: Path) -> None:
        with throw_away(made_dir):
            pass
        with (Layout(made_dir).cluster / "postgresql.conf").open("a") as settings:
            settings.write("nonsense = 1\n")
        error = refused(made_dir)
        assert error.code == "embedded_postgres_failed"
        assert str(error).endswith('postgresql.conf" contains errors')
        assert "FATAL" not in str(error)
        assert not runs(made_dir)

    def test_a_disk_too_small_for_a_cluster(self, small_disk: Callable[[int], Path]) -> None:
        data_dir = small_disk(20) / "data"
        error = refused(data_dir)
        assert error.code == "data_dir_disk_full"
        assert str(data_dir) in str(error)
        assert not list(data_dir.glob("postgres*/PG_VERSION"))

    async def test_a_disk_that_filled_up(self, small_disk: Callable[[int], Path]) -> None:
        disk = small_disk(120)
        data_dir, filler = disk / "data", disk / "filler"
        with throw_away(data_dir) as server:
            await fetch(server.start(), "CREATE TABLE kept AS SELECT 7 AS number")
        _fill(filler)
        _fill(Layout(data_dir).log)  # not even the reason can be written down
        assert refused(data_dir).code == "data_dir_disk_full"
        assert not runs(data_dir)
        filler.unlink()
        with throw_away(data_dir) as server:
            assert await fetch(server.start(), "SELECT number FROM kept") == 7

    def test_a_read_only_disk(self, small_disk: Callable[[int], Path]) -> None:
        disk = small_disk(120)
        with throw_away(disk / "data"):
            pass
        _mount("-o", "remount,ro", str(disk))
        for data_dir in (disk / "data", disk / "fresh"):
            error = refused(data_dir)
            assert error.code == "data_dir_read_only"
            assert "read-only disk" in str(error)


class TestAccounts:
    @pytest.fixture
    def home(self, place: Path, ordinary_user: pwd.struct_passwd) -> Path:
        """The ordinary user's own closed folder."""
        home = place / "a home"
        home.mkdir(mode=0o700)
        os.chown(home, ordinary_user.pw_uid, ordinary_user.pw_gid)
        place.chmod(0o711)
        return home

    async def test_the_whole_as_an_ordinary_user(
        self, home: Path, ordinary_user: pwd.struct_passwd
    ) -> None:
        data_dir = home / "my data"

        def work(parent: Connection[Any, Any]) -> None:
            for _ in range(2):
                with EmbeddedPostgres(data_dir, exclusive=True) as server:
                    parent.send(server.start())
                    parent.recv()

        with as_user(ordinary_user, work) as child:
            dsn = child.recv()
            await fetch(dsn, "CREATE TABLE kept AS SELECT 1 AS one")
            assert psutil.Process(server_pid(data_dir)).username() == ordinary_user.pw_name
            child.send("go on")
            assert child.recv() == dsn
            assert await fetch(dsn, "SELECT count(*) FROM kept") == 1
            child.send("go on")
        assert not runs(data_dir)
        assert [mode_of(folder) for folder in (home, data_dir)] == [0o700, 0o700]
        assert refused(data_dir).code == "data_dir_not_yours"

    def test_an_ordinary_user_in_a_directory_of_root(
        self, place: Path, made_dir: Path, ordinary_user: pwd.struct_passwd
    ) -> None:
        place.chmod(0o711)
        with throw_away(made_dir):
            pass
        with as_user(ordinary_user, _start_and_report(made_dir)) as child:
            code, message = child.recv()
        assert code == "data_dir_not_yours"
        assert "run as root" in message

    def test_an_ordinary_user_without_permission(
        self, place: Path, ordinary_user: pwd.struct_passwd
    ) -> None:
        place.chmod(0o711)
        closed = place / "closed"
        closed.mkdir()
        os.chown(closed, ordinary_user.pw_uid, ordinary_user.pw_gid)
        closed.chmod(0o500)
        for data_dir in (closed, closed / "below", place / "beside"):
            with as_user(ordinary_user, _start_and_report(data_dir)) as child:
                code, message = child.recv()
            assert code == "data_dir_read_only", message
            assert ordinary_user.pw_name in message

    def test_an_ordinary_user_in_a_directory_of_another(
        self, place: Path, ordinary_user: pwd.struct_passwd
    ) -> None:
        place.chmod(0o711)
        foreign = place / "foreign"
        foreign.mkdir(mode=0o700)
        os.chown(foreign, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
        with as_user(ordinary_user, _start_and_report(foreign)) as child:
            code, message = child.recv()
        assert code == "data_dir_not_yours"
        assert pwd.getpwuid(UNPRIVILEGED_UID).pw_name in message

    @needs_root
    def test_root_opens_the_way_and_nothing_else(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Whatever level an earlier test in this process has configured.
        logs: list[dict[str, str]] = []
        log = SimpleNamespace(info=lambda event, **fields: logs.append({"event": event, **fields}))
        monkeypatch.setattr(account, "_log", log)
        closed, open_to_groups = place / "closed", place / "closed" / "open to groups"
        closed.mkdir(mode=0o700)
        open_to_groups.mkdir()
        open_to_groups.chmod(0o755)
        data_dir = open_to_groups / "data"
        with throw_away(data_dir):
            assert psutil.Process(server_pid(data_dir)).username() == "pgserver"
        modes = [mode_of(folder) for folder in (place, closed, open_to_groups, data_dir)]
        assert modes == [0o701, 0o701, 0o755, 0o701]
        folders = {line.get("folder") for line in logs if "passable" in line["event"]}
        assert {str(folder) for folder in (place, closed, data_dir)} <= folders
        assert str(open_to_groups) not in folders

    @needs_root
    def test_programs_installed_under_a_strict_umask(self, place: Path) -> None:
        (place / "bin").mkdir(mode=0o700)
        program, library = place / "bin" / "postgres", place / "lib.so"
        program.touch(0o700)
        library.touch(0o600)
        let_read(server_account(), place)
        modes = [mode_of(path) for path in (place / "bin", program, library)]
        assert modes == [0o705, 0o705, 0o604]


def _socket_lock(data_dir: Path) -> Path:
    return Layout(data_dir).socket_folder / f"{SOCKET_NAME}.lock"


@contextmanager
def _started_by_hand(data_dir: Path) -> Iterator[int]:
    programs, layout = _programs(), Layout(data_dir)
    user, group, extra_groups = programs.account.switch_to
    options = ["-c", "listen_addresses=", "-c", f'unix_socket_directories="{layout.cluster}"']
    server = subprocess.Popen(
        programs.command("postgres", "-D", str(layout.cluster), *options),
        stderr=subprocess.DEVNULL,
        user=user,
        group=group,
        extra_groups=extra_groups,
        cwd="/",
    )
    try:
        wait_until(lambda: (found := read_pid_file(layout.pid_file)) is not None and found.ready)
        yield server.pid
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(RETRY_SECONDS)


@contextmanager
def _living(namesake: str, place: Path) -> Iterator[int]:
    """A living process of the server's account that is not the server."""
    if namesake == "other server":
        with throw_away(place / "other"):
            yield server_pid(place / "other")
        return
    user, group, extra_groups = server_account().switch_to
    program = subprocess.Popen(
        ["sleep", "600"], user=user, group=group, extra_groups=extra_groups, cwd="/"
    )
    try:
        yield program.pid
    finally:
        program.kill()
        program.wait()


def _fill(path: Path) -> None:
    with path.open("ab", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(1 << 16))
        except OSError:
            pass
