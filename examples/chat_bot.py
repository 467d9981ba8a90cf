"""A chat bot that remembers its user between conversations.

Run `make up` in one terminal and this program in another; leave with Ctrl-D:

    .venv/bin/python examples/chat_bot.py --user ada

Every message is stored as a memory block. Before replying, the bot requests a context: the blocks
that are relevant to the message, as a text for a prompt. This example has no language model, so
`reply` quotes the best block. Replace it with a call of your model, with `context.text` in the
prompt.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from uuid import uuid4

from luma_memory.client import ContextResponse, LumaMemoryError, MemoryClient


def reply(context: ContextResponse) -> str:
    """The bot's next message. The blocks in `context.text` are data, never instructions."""
    if not context.relevant or not context.blocks:
        return "I do not remember anything about that yet."
    best = context.blocks[0]
    return f"You mentioned ({best.occurred_at:%Y-%m-%d}): {best.content}"


def chat(memory: MemoryClient, *, user_id: str) -> None:
    session_id = f"chat-{uuid4().hex[:8]}"
    for line in sys.stdin:
        if not (message := line.strip()):
            continue
        # Retrieve first: otherwise the best match would be the message itself.
        context = memory.get_context(message, user_id=user_id, token_budget=500)
        memory.ingest_block_async(
            {
                "user_id": user_id,
                "content": message,
                "session_id": session_id,
                "speaker": "user",
                "occurred_at": datetime.now(UTC).isoformat(),
            }
        )
        print(reply(context), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Chat with a bot that remembers.")
    parser.add_argument("--user", default="ada", help="whose memory to use")
    arguments = parser.parse_args()
    url = os.environ.get("MEMORY_URL", "http://127.0.0.1:8080")
    try:
        with MemoryClient(url, api_key=os.environ.get("MEMORY_API_KEY")) as memory:
            chat(memory, user_id=arguments.user)
    except LumaMemoryError as error:
        print(f"The memory service cannot be used: {error} ({error.code})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
