"""`import` through a running service: nothing twice, nothing lost, also when it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
from tests.support.commands import COMMAND, clean_environment, run
from tests.support.exports import chatgpt_conversation, chatgpt_node, write
from tests.support.service import all_blocks

from luma_memory.api.imports import ImportFormat
from luma_memory.cli.processes import Stack
from luma_memory.client import AsyncMemoryClient, ImportReportBody, Invalid
from luma_memory.importers.formats import FORMATS

pytestmark = pytest.mark.asyncio(loop_scope="module")


def conversations(count: int, messages: int = 4) -> list[dict[str, object]]:
    made = []
    for number in range(count):
        nodes, parent = [], "root"
        for turn in range(messages):
            role = "user" if turn % 2 == 0 else "assistant"
            node_id = f"m-{number}-{turn}"
            text = f"Plank {number} was planed on day {turn}. 🪵"
            nodes.append(chatgpt_node(node_id, parent, role=role, text=text))
            parent = node_id
        made.append(chatgpt_conversation(*nodes, current=parent, id=f"c-{number}"))
    return made


def imported(
    *arguments: str | Path, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return run("import", *arguments, cwd=cwd, **environment)


async def test_a_dry_run_counts_and_stores_nothing(
    stack: Stack, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    path = write(tmp_path, {"conversations.json": conversations(2)})
    shown = imported(path, "--user", "dry", "--dry-run", "--url", stack.base_url, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "would store 8 · skipped 0" in shown.stdout
    assert "from 2026-03-02 09:00 +0000" in shown.stdout
    assert "user: Plank 0 was planed" in shown.stdout
    assert await all_blocks(client, "dry") == []


async def test_an_import_again_changes_nothing(
    stack: Stack, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    hidden = chatgpt_node("h", "root", metadata={"is_visually_hidden_from_conversation": True})
    both = [*conversations(3), chatgpt_conversation(hidden, current="h", id="c-hidden")]
    path = write(tmp_path / "export", {"conversations.json": both}, zipped=True)
    arguments = (path, "--user", "ilka", "--url", stack.base_url, "--batch", "5")
    first = imported(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "stored 12 · skipped 1" in first.stdout
    report = tmp_path / "import-report.jsonl"
    assert [json.loads(line)["reason"] for line in report.read_text().splitlines()] == ["hidden"]
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    before = await all_blocks(client, "ilka")
    again = imported(*arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    after = await all_blocks(client, "ilka")
    assert sorted(block["id"] for block in after) == sorted(block["id"] for block in before)
    one = next(block for block in after if block["external_id"] == "chatgpt:m-1-0")
    assert (one["speaker"], one["session_id"], one["source"]) == ("user", "c-1", "chatgpt")
    assert one["occurred_at"].startswith("2026-03-02T09:00:00.5")


async def test_speakers_go_to_their_users(
    stack: Stack, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    text = "13/03/2026, 09:01 - Ann Example: Ahoy\n13/03/2026, 09:02 - Bo: Aye\n"
    path = write(tmp_path, {"WhatsApp Chat with Ann.txt": text})
    options = ("--map", "Ann Example=ann", "--time-zone", "Europe/Berlin", "--url", stack.base_url)
    shown = imported(path, *options, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "skipped no_user: 1" in shown.stdout
    (block,) = await all_blocks(client, "ann")
    assert block["occurred_at"] == "2026-03-13T08:01:00Z"


async def test_an_ambiguous_date_order_must_be_given(stack: Stack, tmp_path: Path) -> None:
    path = write(tmp_path, {"chat.txt": "05/03/2026, 09:01 - Ann: Ahoy\n"})
    shown = imported(path, "--user", "x", "--url", stack.base_url, cwd=tmp_path)
    assert shown.returncode == 1
    assert "--date-order" in shown.stderr
    assert "Traceback" not in shown.stderr


async def test_errors_are_explained_in_one_sentence(stack: Stack, tmp_path: Path) -> None:
    missing = imported("nothing.json", "--user", "x", "--url", stack.base_url, cwd=tmp_path)
    assert (missing.returncode, "There is no file" in missing.stderr) == (1, True)
    odd = write(tmp_path, {"odd.json": {"a": 1}})
    unknown = imported(odd, "--user", "x", "--url", stack.base_url, cwd=tmp_path)
    assert (unknown.returncode, "--format" in unknown.stderr) == (1, True)
    odd.write_bytes(b"PK\x03\x04 and no more")
    damaged = imported(odd, "--user", "x", "--url", stack.base_url, cwd=tmp_path)
    assert (damaged.returncode, "damaged or incomplete" in damaged.stderr) == (1, True)
    wrong = imported(odd, "--format", "icq", cwd=tmp_path)
    assert (wrong.returncode, "must be auto or one of" in wrong.stderr) == (2, True)


async def test_killed_at_random_and_continued_it_stores_each_message_once(
    stack: Stack, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    path = write(tmp_path, {"conversations.json": conversations(150)})
    random_delay = random.Random(7)
    command = [*COMMAND, "import", str(path), "--user", "killed", "--url", stack.base_url]
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--batch", "7"),
            env=clean_environment(),
            cwd=tmp_path,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        await process.stderr.readline()  # it has begun to read
        await asyncio.sleep(random_delay.uniform(0.05, 1.5))
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
    last = imported(path, "--user", "killed", "--url", stack.base_url, cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    stored = await all_blocks(client, "killed")
    assert sorted(block["external_id"] for block in stored) == sorted(
        f"chatgpt:m-{number}-{turn}" for number in range(150) for turn in range(4)
    )


async def test_it_waits_for_the_enrichment(
    stack: Stack, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    path = write(tmp_path, {"conversations.json": conversations(3)})
    result = imported(path, "--user", "patient", "--wait", "--url", stack.base_url, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert {block["status"] for block in await all_blocks(client, "patient")} == {"active"}


async def test_an_upload_is_imported_with_a_report_and_again_changes_nothing(
    stack: Stack, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    hidden = chatgpt_node("h", "root", metadata={"is_visually_hidden_from_conversation": True})
    both = [*conversations(300), chatgpt_conversation(hidden, current="h", id="c-hidden")]
    path = write(tmp_path / "export", {"a/conversations.json": both, "a/x.txt": "x"}, zipped=True)
    async with AsyncMemoryClient(stack.base_url) as memory:
        for _ in range(2):
            with path.open("rb") as file:
                report = await memory.import_file("uploaded", file, file_name=path.name)
            assert (report.format, report.stored, report.refused) == ("chatgpt", 1_200, 0)
            assert report.skipped == {"hidden": 1}
            (problem,) = report.problems
            assert problem.reason == "hidden"
            assert report.earliest is not None
    stored = await all_blocks(client, "uploaded")
    assert len(stored) == 1_200
    assert {block["source"] for block in stored} == {"chatgpt"}


async def test_an_upload_is_counted_first_and_then_assigned_by_its_mapping(
    stack: Stack, client: httpx2.AsyncClient
) -> None:
    rows = b"id,text,by,when\n1,Oak is hard,Ann Example,2026-03-02T09:00:00\n2,Elm bends,Bo,\n"
    mapping = {"content": "text", "external_id": "id", "speaker": "by", "occurred_at": "when"}

    async def send(**options: Any) -> ImportReportBody:
        return await memory.import_file(
            "mapped-bo",
            io.BytesIO(rows),
            file_name="notes.csv",
            mapping=mapping,
            speakers={"Ann Example": "mapped-ann"},
            **options,
        )

    async with AsyncMemoryClient(stack.base_url) as memory:
        counted = await send(dry_run=True)
        assert (counted.format, counted.found, counted.stored) == ("mapped", 2, 0)
        assert [sample.user_id for sample in counted.samples] == ["mapped-ann", "mapped-bo"]
        assert counted.without_time == 1
        assert await all_blocks(client, "mapped-ann") == []
        assert (await send()).stored == 2
        (block,) = await all_blocks(client, "mapped-ann")
        assert (block["content"], block["external_id"]) == ("Oak is hard", "mapped:1")
    for params, code in (
        ({"mapping": "content=text"}, "mapping_invalid"),
        ({"mapping": "[]"}, "mapping_invalid"),
        ({"mapping": '{"contents": "text"}'}, "mapping_invalid"),
        ({"map": "Ann"}, "map_invalid"),
    ):
        response = await client.post(
            "/users/mapped-bo/import", params={"format": "auto", **params}, content=rows
        )
        assert (response.status_code, response.json()["code"]) == (422, code)


async def test_an_upload_that_is_no_export_is_an_error(
    stack: Stack, client: httpx2.AsyncClient
) -> None:
    path = "/users/uploaded/import"
    for params, body, code in (
        ({"format": "auto"}, b"\x00\x01", "format_unknown"),
        ({"format": "auto"}, b"", "format_unknown"),
        ({"format": "nonsense"}, b"[]", "invalid_request"),
        ({"format": "chatgpt", "time_zone": "Mars/Olympus"}, b"[]", "time_zone_unknown"),
    ):
        response = await client.post(path, params=params, content=body)
        assert response.status_code == 422, response.text
        assert response.json()["code"] == code
    async with AsyncMemoryClient(stack.base_url) as memory:
        with pytest.raises(Invalid) as refused:
            await memory.import_file("uploaded", io.BytesIO(b"nothing"), file_name="../../x")
        assert refused.value.code == "format_unknown"
        # An integer that Python does not convert would end the process.
        hostile = b'[{"id": "1", "memory": "x", "n": ' + b"9" * 10_000 + b"}]"
        report = await memory.import_file("hostile", io.BytesIO(hostile), export_format="mem0")
        assert report.skipped == {"malformed": 1}
        # Numeric dates that remain ambiguous are reported, then read in the given order.
        chat = b"03/04/2026, 10:00 - Ann: Hello\n03/05/2026, 10:00 - Ann: Hello again\n"
        with pytest.raises(Invalid) as refused:
            await memory.import_file("ambiguous", io.BytesIO(chat), file_name="chat.txt")
        assert refused.value.code == "date_order_ambiguous"
        report = await memory.import_file(
            "ambiguous", io.BytesIO(chat), file_name="chat.txt", date_order="dmy"
        )
        assert report.stored == 2
        assert report.earliest == datetime(2026, 4, 3, 10, tzinfo=UTC)


async def test_the_formats_of_the_route_are_those_of_the_importers() -> None:
    assert {*get_args(ImportFormat)} == {"auto", *FORMATS}
