"""The client: all the resources of one service."""

from __future__ import annotations

from luma_memory.client.asynchronous.blocks import Blocks
from luma_memory.client.asynchronous.events import Events
from luma_memory.client.asynchronous.items import Items
from luma_memory.client.asynchronous.jobs import Jobs
from luma_memory.client.asynchronous.keys import Keys
from luma_memory.client.asynchronous.recall import Recall
from luma_memory.client.asynchronous.relations import Relations
from luma_memory.client.asynchronous.service import Service
from luma_memory.client.asynchronous.summaries import Summaries
from luma_memory.client.asynchronous.users import Users
from luma_memory.client.asynchronous.webhooks import Webhooks


class AsyncMemoryClient(
    Blocks, Items, Recall, Relations, Summaries, Jobs, Users, Keys, Webhooks, Events, Service
):
    """All operations of the service. `Connection` documents the parameters; see docs/sdk.md."""
