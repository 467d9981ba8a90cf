"""The guides' commands and statements: each is known to the real parser, and each is run.

Requests of the pages are sent in test_site.py, those of the troubleshooting page where it is tried.
"""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from tests.support.commands import run
from tests.support.documents import requests
from tests.support.load import client_of
from tests.support.token_issuer import Issuer, issuer, signed
from typer.core import TyperGroup
from typer.main import get_command

from luma_memory.cli.main import app
from luma_memory.cli.processes import Stack, running_stack

__all__ = ["issuer"]  # a fixture

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ADMIN_KEY = "a-key-of-the-test-0123456789"
# Typed in a console block; in an indented one; spoken of in a sentence or a table.
_CONSOLE = re.compile(r"^ *\$ ((?:[A-Z_]+=\S+ )*luma-memory .*)$", re.MULTILINE)
_INDENTED = re.compile(r"^    (luma-memory .*)$", re.MULTILINE)
# "text", and `❌ text` or `Text …`: output of a log, a command or a response.
_QUOTED = re.compile(r"(\"|`(?:\W )?(?=[A-Z][a-z]+ [a-z]))([^\"`:{}=$]{8,})(?:\"|…?`)")
_INLINE = re.compile(r"`(luma-memory [^`]+)`")


def in_console(text: str) -> list[str]:
    """The commands a reader is shown to type, without their comments."""
    return [" ".join(shlex.split(line, comments=True)) for line in _CONSOLE.findall(text)]


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shown = [*_CONSOLE.findall(text), *_INDENTED.findall(text)]
        shown += [" ".join(line.split()) for line in _INLINE.findall(text)]
        yield from ((page.name, line) for line in dict.fromkeys(shown))


def parse(line: str) -> None:
    """Read a command line as the program does, and do nothing. Raises what the parser raises."""
    words = shlex.split(line, comments=True)
    words = words[words.index("luma-memory") + 1 :]
    command: Any = get_command(app)
    while isinstance(command, TyperGroup):
        if not words or words == ["--version"]:
            return  # a group, spoken of
        context = command.context_class(command, info_name="luma-memory")
        _, command, words = command.resolve_command(context, words)
    # As in a sentence: options that are named must be known, arguments may be left out.
    given = any(not word.startswith("-") for word in words)
    has_arguments = any(p.param_type_name == "argument" and p.required for p in command.params)
    if words and (given or not has_arguments):
        command.make_context("luma-memory", words)
        return
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize(("page", "line"), [*commands()])
def test_every_command_is_known(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r"[\w-]+\.(?:json|dump)\b", line):
        Path(name).touch()  # the files it names are there
    for name in re.findall(r"\bmemory-\d{4}-\d\d-\d\d(?= |$)", line):
        Path(name).mkdir()  # a backup of several partitions
    parse(line)


def test_there_are_commands() -> None:
    pages = {page for page, _ in commands()}
    assert {"deploy.md", "rollout.md", "operations.md", "supabase.md", "security.md"} <= pages


@pytest.mark.parametrize(
    "line", ["luma-memory jobs retri", "luma-memory migrate --chek", "luma-memory top --onze"]
)
def test_a_command_that_is_not_there_is_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"No such"):
        parse(line)


def statements() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^ *```sql\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
            yield page.name, block
        yield from ((page.name, line) for line in re.findall(r"`(SELECT [^`]+)`", text))


async def test_every_statement_is_understood(connection: asyncpg.Connection) -> None:
    """On a database with the schema; what they find is the subject of other tests."""
    tried = list(statements())
    assert len(tried) >= 8
    for page, text in tried:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(text)
        except asyncpg.PostgresError as error:
            raise AssertionError(f"{page}: {text}") from error
        finally:
            await transaction.rollback()


def test_messages_quoted_by_the_troubleshooting_page_exist() -> None:
    """In the code: an operator searches in vain for a message that no longer exists."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [" ".join(part.split()) for _, part in _QUOTED.findall(page)]
    assert len(quoted) >= 7
    texts = "\n".join(literals())
    for sentence in quoted:
        for part in re.split(r"…|\d+", sentence):
            assert part.strip() in texts, sentence


def literals() -> Iterator[str]:
    """Every text of the package, those of several lines as one, and the migration's own errors."""
    frame = ROOT / "src" / "luma_memory" / "migrations" / "frame"
    yield (frame / "opening.sql").read_text(encoding="utf-8")
    for path in (ROOT / "src" / "luma_memory").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


# Run as they stand


class Terminal:
    """An operator's terminal in a folder of its own, with the service's settings."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._folder = folder
        self._settings = {
            "DATABASE_URL": stack.database_url,
            "MEMORY_PORT": str(stack.port),
            "MEMORY_ADMIN_KEY": ADMIN_KEY,
        }

    async def run(self, line: str) -> str:
        """What it prints. Raises AssertionError unless it ends with 0."""
        words = shlex.split(line)
        set_here = dict(word.split("=", 1) for word in words[: words.index("luma-memory")])
        arguments = words[words.index("luma-memory") + 1 :]
        done = await asyncio.to_thread(
            run, *arguments, cwd=self._folder, **{**self._settings, **set_here}
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout


@pytest.mark.slow
async def test_the_supabase_guides_request_returns_the_users_own_data(
    issuer: Issuer, tmp_path: Path
) -> None:
    claims = issuer.claims()
    async with running_stack(
        data_dir=tmp_path / "data", supabase_url=issuer.url, embedding_enabled=False
    ) as stack:
        variables = {"$MEMORY_URL": stack.base_url, "$ACCESS_TOKEN": signed(claims)}
        ((program, silent, url, *rest),) = requests(ROOT / "docs" / "supabase.md")
        assert (program, silent) == ("curl", "-s")
        for user_id, status in ((claims["sub"], 200), ("somebody-else", 403)):
            text = json.dumps([url, *rest])
            for placeholder, meant in {**variables, "USER_ID_OF_THE_TOKEN": user_id}.items():
                assert placeholder in text
                text = text.replace(placeholder, meant)
            to, *options = json.loads(text)
            pairs = list(zip(options[::2], options[1::2], strict=True))
            async with httpx2.AsyncClient(trust_env=False) as client:
                response = await client.post(
                    to,
                    content=next(value for name, value in pairs if name == "-d"),
                    headers=[value.split(": ", 1) for name, value in pairs if name == "-H"],
                )
            assert response.status_code == status, response.text


@pytest.mark.slow
async def test_the_guides_commands_are_run(tmp_path: Path) -> None:
    def shown_in(page: str) -> list[str]:
        return in_console((ROOT / "docs" / page).read_text(encoding="utf-8"))

    async with running_stack(
        data_dir=tmp_path / "data", admin_key=ADMIN_KEY, embedding_enabled=False
    ) as stack:
        terminal = Terminal(stack, tmp_path)
        (migrate,) = shown_in("supabase.md")
        assert "already at" in await terminal.run(
            migrate.replace("postgresql://…", stack.database_url)
        )
        (check,) = shown_in("rollout.md")
        line = check.replace("https://memory.example.com", stack.base_url)
        await terminal.run(f"{line} --accept-ms 5000")
        (enqueue,) = shown_in("rollback.md")
        assert "enqueued 0 jobs" in await terminal.run(enqueue)
        create, listing, revoke, verify = shown_in("security.md")
        made = await terminal.run(create)
        key = re.search(r"lmk_\w+", made)
        assert key is not None
        assert "chat-backend" in await terminal.run(listing)
        await terminal.run(revoke.replace("lmk_abcdefghijkl", key.group()[:16]))
        async with client_of(stack) as client:
            client.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
            block = {"user_id": "ada", "content": "Ada lives in Lisbon."}
            (await client.post("/blocks", json=block)).raise_for_status()
            receipt = (await client.delete("/users/ada")).raise_for_status().json()
        (tmp_path / "receipt.json").write_text(json.dumps(receipt))
        assert "valid:" in await terminal.run(verify)
        # The others are of several partitions: tests/integration/test_partition_backups.py.
        backup, restore, *_ = shown_in("operations.md")
        await terminal.run(backup)
        await terminal.run(restore.replace("luma-memory", "DATABASE_URL= luma-memory", 1))
        assert (tmp_path / "new" / "postgres").is_dir()
