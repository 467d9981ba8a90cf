"""Call the routes of mem0's clients, as an application does that moves from mem0.

Run `make up` in one terminal and this program in another:

    .venv/bin/python examples/mem0_routes.py --user ada "I keep bees." "What do I keep?"

With mem0's own package it is two lines, and the responses are the same:

    client = MemoryClient(api_key=…, host="http://127.0.0.1:8080/mem0")
    client.add("I keep bees.", user_id="ada")

This example needs no package of mem0's: it sends the requests that the client sends.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

import httpx2


class Mem0:
    """The two calls that most applications make, and the event that ends the first."""

    def __init__(self, url: str, api_key: str) -> None:
        self._http = httpx2.Client(
            base_url=f"{url.rstrip('/')}/mem0",
            headers={"Authorization": f"Token {api_key}"},
            timeout=30,
        )

    def add(self, text: str, *, user_id: str) -> str:
        """Store a message; the id of its event."""
        messages = [{"role": "user", "content": text}]
        added = self._post("/v3/memories/add/", {"messages": messages, "user_id": user_id})
        return str(added["event_id"])

    def wait(self, event_id: str) -> str:
        """The status of an event once it has ended."""
        while True:
            status = str(self._checked(self._http.get(f"/v1/event/{event_id}/"))["status"])
            if status in ("SUCCEEDED", "FAILED"):
                return status
            time.sleep(0.2)

    def search(self, query: str, *, user_id: str) -> list[dict[str, Any]]:
        """Memories about a query, best first."""
        body = {"query": query, "filters": {"user_id": user_id}, "top_k": 3}
        found: list[dict[str, Any]] = self._post("/v3/memories/search/", body)["results"]
        return found

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._checked(self._http.post(path, json=body))

    def _checked(self, response: httpx2.Response) -> dict[str, Any]:
        document: dict[str, Any] = response.json()
        if not response.is_success:
            raise SystemExit(f"{response.status_code}: {document['detail']}")
        return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--user", default="ada")
    parser.add_argument("memory")
    parser.add_argument("question")
    arguments = parser.parse_args()
    client = Mem0(
        os.environ.get("MEMORY_URL", "http://127.0.0.1:8080"),
        os.environ.get("MEMORY_API_KEY") or "none",
    )
    event_id = client.add(arguments.memory, user_id=arguments.user)
    print(f"{client.wait(event_id).lower()}: {arguments.memory}", file=sys.stderr)
    for memory in client.search(arguments.question, user_id=arguments.user):
        print(f"{memory['score']:.2f} {memory['memory']}")


if __name__ == "__main__":
    main()
