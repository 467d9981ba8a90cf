"""Every method of mem0's Python clients that the service offers. Prints `ok` at its end.

Run in the environment of `make test-integrations`: URL and KEY are arguments.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from mem0 import AsyncMemoryClient, MemoryClient, exceptions
from mem0.client.types import (
    AddMemoryOptions,
    DeleteAllMemoryOptions,
    GetAllMemoryOptions,
    SearchMemoryOptions,
    UpdateMemoryOptions,
)
from mem0.exceptions import MemoryNotFoundError, ValidationError

MISSING = "0198f3a2-7c11-7abc-9def-0123456789ab"


def raised(kind: type[Exception], call: Any, *args: Any, **kwargs: Any) -> Exception:
    try:
        call(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError(f"{call} raised no {kind.__name__}")


def texts(page: dict[str, Any]) -> list[str]:
    return sorted(one["memory"] for one in page["results"])


def synchronous(client: MemoryClient) -> None:
    assert (client.org_id, client.project_id) == ("luma-memory", "default")
    said = [
        {"role": "user", "content": "I moved to Lisbon with my red bicycle."},
        {"role": "assistant", "content": "Enjoy the hills!"},
    ]
    added = client.add(
        said, user_id="ana", agent_id="bot", app_id="web", run_id="r1", metadata={"k": 1}
    )
    assert added["status"] == "PENDING"
    # The client has no method for events.
    give_up_at = time.monotonic() + 120
    while (event := client.client.get(f"/v1/event/{added['event_id']}/").json())["status"] not in (
        "SUCCEEDED",
        "FAILED",
    ):
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    assert event["status"] == "SUCCEEDED"

    (plain,) = client.add("I keep bees.", user_id="ana", infer=False)["results"]
    assert plain["data"] == {"memory": "I keep bees."}
    options = AddMemoryOptions(
        filters={"user_id": "ana"}, infer=False, expiration_date="2999-01-01"
    )
    assert client.add("I keep goats.", options=options)["results"][0]["event"] == "ADD"
    memory_id = plain["id"]

    found = client.search("Where is the red bicycle?", filters={"user_id": "ana"}, top_k=2)
    assert found["results"][0]["memory"] == said[0]["content"]
    assert len(found["results"]) == 2
    options = SearchMemoryOptions(filters={"AND": [{"user_id": "ana"}, {"run_id": "r1"}]})
    assert texts(client.search("bicycle", options=options)) == sorted(
        message["content"] for message in said
    )
    page = client.get_all(filters={"user_id": "ana"}, page=1, page_size=3)
    assert (page["count"], len(page["results"]), page["previous"]) == (4, 3, None)
    assert "page=2" in page["next"]
    options = GetAllMemoryOptions(filters={"user_id": "ana", "agent_id": "bot"})
    assert client.get_all(options=options)["count"] == 2

    assert client.get(memory_id)["memory"] == "I keep bees."
    updated = client.update(memory_id, text="I keep wasps.", metadata={"k": 2})
    assert (updated["memory"], updated["metadata"]) == ("I keep wasps.", {"k": 2})
    client.update(memory_id, options=UpdateMemoryOptions(timestamp=1_700_000_000))
    assert client.get(memory_id)["created_at"].startswith("2023-11-14")
    client.update(memory_id, expiration_date=None)
    assert [one["event"] for one in client.history(memory_id)][:2] == ["ADD", "UPDATE"]
    assert (
        "updated 1"
        in client.batch_update([{"memory_id": memory_id, "text": "I keep ants."}])["message"]
    )
    assert client.get(memory_id)["memory"] == "I keep ants."
    assert "deleted 1" in client.batch_delete([{"memory_id": memory_id}])["message"]
    (other,) = client.add("Soon gone.", user_id="ana", infer=False)["results"]
    assert client.delete(other["id"], delete_linked=True)["message"]

    names = {(one["type"], one["name"]) for one in client.users()["results"]}
    assert names == {("user", "ana"), ("agent", "bot"), ("app", "web"), ("run", "r1")}
    assert client.delete_all(user_id="ana", run_id="r1")["message"]
    assert texts(client.get_all(filters={"user_id": "ana"})) == ["I keep goats."]
    client.delete_all(options=DeleteAllMemoryOptions(filters={"user_id": "ana"}))
    assert client.get_all(filters={"user_id": "ana"})["count"] == 0

    raised(MemoryNotFoundError, client.get, MISSING)
    raised(ValidationError, client.delete_all)
    raised(ValidationError, client.search, "x", filters={"user_id": "ana", "color": "red"})
    refused = raised(exceptions.MemoryError, client.feedback, memory_id)
    assert "does not offer feedback" in str(refused)
    raised(exceptions.MemoryError, client.get_summary)
    raised(exceptions.MemoryError, client.get_profile, "ana")
    raised(exceptions.MemoryError, client.create_memory_export, "{}", user_id="ana")
    raised(exceptions.MemoryError, client.project.get)

    client.add("Of a user.", user_id="bob", agent_id="bot", infer=False)
    client.add("Of an agent.", agent_id="bot", infer=False)
    assert texts(client.get_all(filters={"agent_id": "bot"})) == ["Of an agent."]
    assert client.delete_users(agent_id="bot")["message"] == "Entity deleted successfully."
    client.add("Of a user.", user_id="bob", run_id="r2", infer=False)
    assert "All users and memories deleted" in client.reset()["message"]
    assert client.users()["count"] == 0


async def asynchronous(client: AsyncMemoryClient) -> None:
    async with client:
        (added,) = (await client.add("I keep bees.", user_id="cleo", infer=False))["results"]
        found = await client.search("bees", filters={"user_id": "cleo"})
        assert found["results"][0]["id"] == added["id"]
        assert (await client.get_all(filters={"user_id": "cleo"}))["count"] == 1
        await client.update(added["id"], text="I keep goats.")
        assert len(await client.history(added["id"])) == 2
        await client.batch_update([{"memory_id": added["id"], "text": "I keep ants."}])
        assert (await client.get(added["id"]))["memory"] == "I keep ants."
        assert (await client.users())["count"] == 1
        await client.batch_delete([{"memory_id": added["id"]}])
        (other,) = (await client.add("Again.", user_id="cleo", infer=False))["results"]
        await client.delete(other["id"])
        await client.delete_all(user_id="cleo")
        await client.delete_users(user_id="cleo")


def main() -> None:
    url, key = sys.argv[1:3]
    synchronous(MemoryClient(api_key=key, host=f"{url}/mem0"))
    asyncio.run(asynchronous(AsyncMemoryClient(api_key=key, host=f"{url}/mem0")))
    refused = raised(ValueError, MemoryClient, api_key="m0-wrong", host=f"{url}/mem0")
    assert "unknown" in str(refused) or "credentials" in str(refused).lower(), refused
    print("ok")


main()
