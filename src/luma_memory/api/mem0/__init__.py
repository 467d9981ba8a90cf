"""The routes that mem0's clients call, over the pipeline of the REST routes.

An application that uses `mem0ai` changes one address: `host="http://…/mem0"`. Requests, responses,
statuses and errors have the form of mem0's hosted API (`/v1`, `/v2`, `/v3`) and of its open-source
server (`/memories`, `/search`). What this service does not offer responds 501 `not_offered`.

A memory is a block. Every block has an owner, the `user_id` of its scope; mem0 also knows memories
of an agent, an application or a run without a user, and those have a scope of their own: `owners`.
"""

from __future__ import annotations

from typing import Final

MEM0_PATH: Final = "/mem0"


def is_mem0(path: str) -> bool:
    """Whether a request's path is one of mem0's."""
    return path.startswith(f"{MEM0_PATH}/")
