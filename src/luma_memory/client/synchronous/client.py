# Generated from client.py in `asynchronous`; change it there, then `make format`.

"""The client: all the resources of one service."""

from __future__ import annotations

from luma_memory.client.synchronous.blocks import Blocks
from luma_memory.client.synchronous.events import Events
from luma_memory.client.synchronous.items import Items
from luma_memory.client.synchronous.jobs import Jobs
from luma_memory.client.synchronous.keys import Keys
from luma_memory.client.synchronous.recall import Recall
from luma_memory.client.synchronous.relations import Relations
from luma_memory.client.synchronous.service import Service
from luma_memory.client.synchronous.summaries import Summaries
from luma_memory.client.synchronous.users import Users
from luma_memory.client.synchronous.webhooks import Webhooks


class MemoryClient(
    Blocks, Items, Recall, Relations, Summaries, Jobs, Users, Keys, Webhooks, Events, Service
):
    """All operations of the service. `Connection` documents the parameters; see docs/sdk.md."""
