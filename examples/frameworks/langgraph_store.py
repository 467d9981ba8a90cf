"""Long-term memory of a LangGraph agent, without a model key.

Start the service with `make up`, then run this program in an environment with
`pip install 'luma-memory[langgraph]'`:

    python examples/frameworks/langgraph_store.py

One graph stores the user's message, another finds it in a later conversation.
"""

from __future__ import annotations

import os
from typing import TypedDict
from uuid import uuid4

from langgraph.graph import END, START, StateGraph
from langgraph.store.base import BaseStore

from luma_memory.integrations.langgraph import LumaStore

URL = os.environ.get("MEMORY_URL", "http://127.0.0.1:8080")


class State(TypedDict):
    message: str
    reply: str


def remember(state: State, *, store: BaseStore) -> State:
    store.put(("facts",), uuid4().hex, {"text": state["message"]})
    return state


def recall(state: State, *, store: BaseStore) -> State:
    found = store.search(("facts",), query=state["message"], limit=1)
    text = found[0].value["text"] if found else "I do not know yet."
    return {"message": state["message"], "reply": text}


def main() -> None:
    store = LumaStore(URL, user_id=f"example-{uuid4()}")
    for name, node in (("remember", remember), ("recall", recall)):
        graph = StateGraph(State)
        graph.add_node(name, node)
        graph.add_edge(START, name)
        graph.add_edge(name, END)
        agent = graph.compile(store=store)
        message = "My sister Ines lives in Porto." if name == "remember" else "Where is my sister?"
        print(f"{message} → {agent.invoke({'message': message, 'reply': ''})['reply'] or 'noted'}")
    store.close()


if __name__ == "__main__":
    main()
