"""Whose a memory is: mem0's four kinds of ids, and the scope that each maps to.

With a user_id, the scope is the user's, and agent_id, app_id and run_id are properties of the
memory. Without one, the memory belongs to the agent, else the application, else the run; its scope
has a name that no application gives its users. One scope for all of them would let a statement of
one conversation supersede that of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from luma_memory.domain.access import Caller
from luma_memory.domain.errors import Invalid
from luma_memory.domain.scope import Scope
from luma_memory.protocol.validation import NAME_CHARACTERS_MAX

Kind = Literal["user", "agent", "app", "run"]
# In the order in which a memory's owner is chosen.
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
ID_FIELDS: Final[Mapping[str, Kind]] = {f"{kind}_id": kind for kind in KINDS}
_PREFIX: Final = "mem0:"


@dataclass(frozen=True, slots=True)
class Owner:
    """One user, agent, application or run."""

    kind: Kind
    name: str

    @property
    def user_id(self) -> str:
        """The user_id of its scope. Raises Invalid for a name too long to hold the kind as well."""
        if self.kind == "user":
            return self.name
        user_id = f"{_PREFIX}{self.kind}:{self.name}"
        if len(user_id) > NAME_CHARACTERS_MAX:
            raise Invalid(
                f"Without a user_id, {self.kind}_id must have at most"
                f" {NAME_CHARACTERS_MAX - len(user_id) + len(self.name)} characters",
                code="text_too_long",
                field=f"{self.kind}_id",
            )
        return user_id


def owner_of(user_id: str) -> Owner:
    """The owner whose scope this is."""
    for kind in KINDS[1:]:
        prefix = f"{_PREFIX}{kind}:"
        if user_id.startswith(prefix) and len(user_id) > len(prefix):
            return Owner(kind, user_id[len(prefix) :])
    return Owner("user", user_id)


def chosen_owner(ids: Mapping[str, str | None], caller: Caller) -> Owner:
    """The owner of a new memory. Raises Invalid (code entity_missing) if no id is given.

    ids: by the names in ID_FIELDS. A caller limited to one user needs to name none.
    """
    for field, kind in ID_FIELDS.items():
        if kind != "user" and caller.user_id is not None:
            break
        if name := ids.get(field):
            return Owner(kind, name)
    if caller.user_id is not None:
        return Owner("user", caller.user_id)
    raise entity_missing()


def scope_of(owner: Owner, caller: Caller) -> Scope:
    """The owner's scope. Raises Forbidden for another user than the caller's own."""
    return caller.scope(owner.user_id)


def entity_missing() -> Invalid:
    return Invalid(
        "Name whose memories: at least one of user_id, agent_id, app_id, run_id",
        code="entity_missing",
        field="user_id",
    )
