"""The owner boundary."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """The owner of blocks: nothing is read or written without one.

    project_id separates applications that share an installation and comes from the API key;
    user_id is the client's own id of its end user. Ordered, so that rows are locked in one order.
    """

    project_id: str
    user_id: str
