"""The console in a browser, on a real service with the sample data."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import get_args

import pytest
import pytest_asyncio
from tests.support.console import CONSOLE, check_pages, installed, pictures_folder, plan
from tests.support.console_sample import (
    changing_model,
    fill,
    fill_large,
    plant_faults,
    plant_payloads,
)
from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.machine_load import within
from tests.support.script_payloads import PAYLOADS
from tests.support.servers import Servers
from tests.support.service import BASE_PATH
from tests.support.typescript_sdk import ROOT, run_node

from luma_memory.cli.processes import API
from luma_memory.client import AsyncMemoryClient
from luma_memory.domain.access import EVERY_PERMISSION
from luma_memory.domain.job import JobStatus

PAGE = ROOT / "docs" / "console.md"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Console:
    """A service with the sample data, and what drives a browser on it."""

    keyed: KeyedService
    key: str
    paths: Mapping[str, str]
    node: str
    browser: str

    @property
    def url(self) -> str:
        return self.keyed.stack.base_url

    def client(self) -> AsyncMemoryClient:
        return AsyncMemoryClient(self.url, api_key=self.key, timeout_seconds=120)

    async def run(self, program: str, *, seconds_max: float = 240, **given: object) -> str:
        given = {"key": self.key, **given}
        argument = plan(self.url, self.browser, **given)
        return await asyncio.to_thread(
            run_node,
            self.node,
            f"test/{program}",
            argument,
            folder=CONSOLE,
            seconds_max=seconds_max,
        )

    @asynccontextmanager
    async def running(self, program: str) -> AsyncIterator[subprocess.Popen[str]]:
        """A program to talk to; terminated at the end."""
        browsing = await asyncio.to_thread(
            subprocess.Popen,
            [self.node, f"test/{program}", plan(self.url, self.browser, key=self.key)],
            cwd=CONSOLE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with browsing:
            try:
                yield browsing
            finally:
                browsing.terminate()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(servers: Servers) -> AsyncIterator[Console]:
    node, browser = installed()
    async with running_keyed_service(servers, relations_enabled=True) as keyed:
        key = await keyed.key(*EVERY_PERMISSION)
        async with AsyncMemoryClient(keyed.stack.base_url, api_key=key) as client:
            paths = await fill(client)
            faults = await plant_faults(client, keyed.stack.database_url)
        yield Console(keyed, key, {**paths, **faults}, node, browser)


async def test_every_page_is_accessible_and_has_no_error(console: Console) -> None:
    printed = await console.run("pages.mjs", paths=console.paths, sizes=[360], themes=["dark"])
    check_pages(printed, count=len(console.paths))


async def test_a_person_can_do_everything_and_a_key_only_what_it_may(console: Console) -> None:
    printed = await console.run(
        "flows.mjs",
        api=console.url + BASE_PATH,
        reader=await console.keyed.key("read"),
        readable=[path for name, path in console.paths.items() if name not in _ADMIN_PAGES],
        ofUser={"key": await console.keyed.key("read", user_id="iris"), "user": "iris"},
    )
    report = json.loads(printed)
    assert report["keyPlaces"] == {
        "session": True,
        "local": False,
        "cookie": "",
        "address": False,
        "text": False,
    }
    assert not any(report["axe"].values()), report["axe"]
    assert len(report["axe"]) == 6
    assert report["liveMs"] < 1000 * within(3)
    assert report["edited"]
    assert report["escapeCloses"]
    assert report["deleted"]
    assert report["willDelete"].startswith("2 blocks")
    assert report["left"] == 1
    assert report["restored"] == "active"
    assert report["secretWorks"] == 200
    assert not report["secretShownAgain"]
    assert report["ownKeyStays"]
    assert report["willRevoke"].startswith("2 keys")
    assert report["keysLeft"] == [0, 1]
    assert report["willDeleteWebhooks"].startswith("1 webhook")
    assert report["webhooksLeft"] == 2
    assert report["direction"] == "rtl"
    # Lisbon in summer is an hour ahead of UTC.
    assert "13:30" in report["occurred"][0]
    assert report["occurred"][1] == "2026-07-01 12:30:00 UTC"
    assert all(console.url in copy and "lmk_" not in copy for copy in report["copies"])
    assert report["eraseNeedsName"]
    assert report["seen"]["hosts"] == []
    assert report["seen"]["dialogs"] == []
    (ranked, compared) = report["bars"]
    assert ranked["results"] == compared["results"] == 10
    assert ranked["bars"] > 10  # several parts each
    assert compared["bars"] == 10
    assert [text for text in report["reader"]["buttons"] if _CHANGING.match(text)] == []
    assert {"Keys", "Webhooks"}.isdisjoint(report["reader"]["links"])
    assert report["ofUser"]["users"] == ["iris"]
    assert report["ofUser"]["owners"] == ["iris"]
    # The wrong key of each sign-in, and nothing else.
    for errors in (report["seen"]["errors"], report["reader"]["seen"], report["ofUser"]["seen"]):
        assert [error for error in errors if "401" not in error] == []


# Of buttons that change something, or need the permission `admin`.
_CHANGING = re.compile(
    r"(?:Add|Edit|Delete|Erase|Export|Accept|Reject|Save|Retry|Cancel|Pause|Resume|Summarize|Create|Revoke)\b"
)
_ADMIN_PAGES = ("keys", "webhooks", "webhook")
# A filter and a column of every list; the filter leaves some rows, and not all.
LISTS: Mapping[str, tuple[str, tuple[str, str | bool], str | None]] = {
    "users": ("#/users", ("User id begins with", "i"), "Blocks"),
    "blocks": ("#/blocks?user_id=ilka", ("Session", "S2"), "Importance"),
    "blocks by JSON": (
        "#/blocks?user_id=ilka",
        ("Filter as JSON", '{"speaker": "Bram"}'),
        "Occurred",
    ),
    "sessions": ("#/users/ilka?tab=sessions", ("Session id begins with", "S7"), "Blocks"),
    "items": ("#/users/ilka?tab=items", ("Namespace begins with", "preferences / food"), "Key"),
    "weeks": ("#/users/iris?tab=weeks", ("From week", "2026-W12"), None),
    "relations of a user": ("#/users/iris?tab=relations", ("Type", "supersedes"), "Confidence"),
    "relations": ("#/relations?user_id=iris", ("Type", "supersedes"), "Confidence"),
    "jobs": ("#/jobs", ("Status", "failed"), "Created"),
    "usage": ("#/usage", ("Operation", "embedding"), "Calls"),
    "keys": ("#/keys", ("User", "iris"), "Created"),
    "webhooks": ("#/webhooks", ("Status", "enabled"), "URL"),
    "settings": ("#/settings", ("Find", "RELATIONS"), "Variable"),
}


def _without_last_use(row: str) -> str:
    """Of a key the time behind that of its creation, which may be recorded meanwhile."""
    return re.sub(r"(\d\d:\d\d:\d\d\s+)(?:–|\d[^\n]*:\d\d)(?=\s+Revoke)", r"\1–", row)


async def test_every_list_filters_and_sorts_and_its_address_has_both(console: Console) -> None:
    await console.keyed.key("read", user_id="iris")
    async with console.client() as client:
        await client.put_item(["preferences", "food"], "bread", {"kind": "rye"}, user_id="ilka")
        await client.make_summary("iris", week="2026-W15")
        off = await client.create_webhook("https://example.com/off")
        await client.edit_webhook(off.id, enabled=False)
    lists = {
        name: {"path": path, "filter": filter_, "sort": sort}
        for name, (path, filter_, sort) in LISTS.items()
    }
    report = json.loads(await console.run("lists.mjs", lists=lists))
    for name, found in report["lists"].items():
        for rows in ("all", "filtered", "sorted", "again"):
            found[rows] = [_without_last_use(row) for row in found[rows]]
        assert 0 < len(found["filtered"]) < len(found["all"]), name
        assert sorted(found["sorted"]) == sorted(found["filtered"]), name
        assert found["order"] == "ascending" if LISTS[name][2] else "order" not in found, name
        assert found["again"] == found["sorted"], name
        assert found["kept"], name
    assert report["seen"] == {"errors": [], "hosts": [], "dialogs": [], "keys": []}


async def test_the_console_works_below_a_path_of_a_proxy(console: Console) -> None:
    printed = await console.run("prefix.mjs", paths=console.paths)
    report = json.loads(printed)
    assert report["missed"] == []
    assert report["copy"].startswith(f"curl -sS '{report['base']}/api/v1/memory/search'")
    assert report["seen"] == {"errors": [], "hosts": [], "dialogs": [], "keys": []}
    assert report["headings"] == len(console.paths)
    assert report["live"]


async def test_stored_scripts_do_not_run(console: Console) -> None:
    async with console.client() as client:
        paths = await plant_payloads(console.keyed, client)
    try:
        printed = await console.run(
            "pages.mjs", paths=paths, sizes=[1280], themes=["light"], further=True
        )
        report = json.loads(printed)
        assert report["seen"] == {"errors": [], "hosts": [], "dialogs": [], "keys": []}
        assert report["ran"] is False
        assert len(report["pages"]) == len(paths)
        # All are displayed: a list has 50 on a page.
        shown = report["shown"]
        for name in ("users", "blocks", "keys"):
            text = _words(shown[f"payload-{name} 1280 light"])
            assert [payload for payload in PAYLOADS if _words(payload) not in text] == [], name
    finally:
        async with console.client() as client:
            for payload in PAYLOADS:
                await client.erase_user(payload)


def _words(text: str) -> str:
    """Without spaces, which a page does not keep."""
    return "".join(text.split())


@pytest.mark.slow
@pytest.mark.timeout(1_500)
async def test_every_size_and_theme(console: Console) -> None:
    sizes, themes = [360, 768, 1440, 2560], ["light", "dark"]
    printed = await console.run(
        "pages.mjs", seconds_max=1_200, paths=console.paths, sizes=sizes, themes=themes
    )
    check_pages(printed, count=8 * len(console.paths))


@pytest.mark.slow
async def test_the_service_away_and_back(console: Console) -> None:
    async with console.running("outage.mjs") as browsing:
        report = json.loads(await _away_and_back(console, browsing))
    assert report == {"dialogs": [], "hosts": []}


async def test_a_change_of_the_embedding_model_is_shown_while_it_lasts(console: Console) -> None:
    async with (
        changing_model(console.keyed.stack.database_url) as change,
        console.running("reembedding.mjs") as browsing,
    ):
        half = change.total // 2
        for done in (half, change.total):
            await change.embedded(done)
            text = f"{done} of {change.total} passages ({100 * done // change.total} %)"
            report = await _shown(browsing, text)
            assert report == {"bars": [[done, change.total]] * 2, "faults": []}
        await change.end()
        assert await _shown(browsing, "") == {"bars": [], "faults": []}


async def _shown(browsing: subprocess.Popen[str], text: str) -> Mapping[str, object]:
    assert browsing.stdin
    assert browsing.stdout
    browsing.stdin.write(f"{text}\n")
    browsing.stdin.flush()
    report: Mapping[str, object] = json.loads(await asyncio.to_thread(browsing.stdout.readline))
    return report


async def _away_and_back(console: Console, browsing: subprocess.Popen[str]) -> str:
    """The last line that the program prints."""
    assert browsing.stdin
    assert browsing.stdout
    stack = console.keyed.stack
    assert await asyncio.to_thread(browsing.stdout.readline) == "open\n"
    try:
        await stack.children[API].stop(grace_seconds=1)
        assert await asyncio.to_thread(browsing.stdout.readline) == "away\n"
    finally:
        await stack.restart(API)
        await stack.ready()
    browsing.stdin.write("back\n")
    browsing.stdin.flush()
    return await asyncio.to_thread(browsing.stdout.readline)


@pytest.mark.slow
async def test_pictures_of_the_documentation(console: Console) -> None:
    """Written with `make console-pictures`."""
    folder = pictures_folder()
    if folder is None:
        pytest.skip("make console-pictures writes them")
    folder.mkdir(parents=True, exist_ok=True)
    shown = set(re.findall(r"images/console/([\w-]+)\.webp", PAGE.read_text("utf-8")))
    paths = {name: path for name, path in console.paths.items() if name in shown}
    assert set(paths) == shown
    await console.run(
        "pages.mjs",
        paths=paths,
        sizes=[1120],
        themes=["light"],
        pictures=str(folder),
        whole=False,
    )


@pytest.mark.slow
async def test_a_large_installation(servers: Servers, console: Console) -> None:
    """100,000 blocks, 10,000 users, 50,000 jobs. Prints milliseconds of first page and lists."""
    async with running_keyed_service(servers, workers=0) as keyed:
        await fill_large(keyed.stack.database_url, users=10_000)
        key = await keyed.key(*EVERY_PERMISSION)
        paths = {
            "users": "#/users",
            "users by prefix": "#/users?prefix=user-7&sort=user_id",
            "blocks": "#/blocks",
            "blocks by filter": "#/blocks?source=mail",
            "jobs": "#/jobs",
            **{f"jobs {status}": f"#/jobs?status={status}" for status in get_args(JobStatus)},
        }
        argument = plan(keyed.stack.base_url, console.browser, key=key, paths=paths)
        printed = await asyncio.to_thread(
            run_node, console.node, "test/large.mjs", argument, folder=CONSOLE
        )
    print(printed)
    report = json.loads(printed)
    assert {name: found["rows"] for name, found in report["pages"].items()} == dict.fromkeys(
        paths, 50
    )
    # In a new browser, and again with its cache.
    assert all(first["numbers"] < 1000 * within(1) for first in report["first"])
    assert all(found["ms"] < 1000 * within(0.3) for found in report["pages"].values())
    assert report["seen"] == {"errors": [], "hosts": [], "dialogs": [], "keys": []}
