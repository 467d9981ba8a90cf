"""The memory tools of a CrewAI agent, called as the agent calls them, without a model key.

Start the service with `make up`, then run this program in an environment with
`pip install 'luma-memory[crewai]'`:

    python examples/frameworks/crewai_tools.py

With a model, pass them to an agent: `Agent(role=…, goal=…, backstory=…, tools=luma_tools(URL))`.
"""

from __future__ import annotations

import os
from uuid import uuid4

from luma_memory.integrations.crewai import luma_tools

URL = os.environ.get("MEMORY_URL", "http://127.0.0.1:8080")


def main() -> None:
    search, add = luma_tools(URL, user_id=f"example-{uuid4()}")
    add.run(content="My sister Ines lives in Porto.")
    print(search.run(query="Where does my sister live?"))


if __name__ == "__main__":
    main()
