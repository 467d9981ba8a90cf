"""Settings of the service, to read only."""

from __future__ import annotations

from fastapi import APIRouter

from luma_memory.api.problems import RESPONSES
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.bootstrap.settings_reference import Entry, entries, plain_text, shown
from luma_memory.protocol.settings import SettingBody, SettingListBody
from luma_memory.settings import Settings

router = APIRouter(prefix="/settings", tags=["health"], route_class=ProtectedRoute)


@router.get("", responses=RESPONSES, **permission("admin"))
async def list_settings(service: ServiceDep, caller: CallerDep) -> SettingListBody:
    """Every setting with its value and meaning. Secrets are never shown.

    They are those of all projects, so this needs a key of the project `default`.
    """
    caller.check_operates_installation()
    return SettingListBody(settings=[_body(entry, service.settings) for entry in entries()])


def _body(entry: Entry, settings: Settings) -> SettingBody:
    value = shown(entry, settings)
    return SettingBody(
        name=entry.variable,
        value=None if entry.is_secret else value,
        default=entry.default,
        description=plain_text(entry.meaning),
        group=entry.section,
        is_secret=entry.is_secret,
        is_set=value is not None and value != entry.default,
    )
