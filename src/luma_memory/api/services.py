"""What the routes work with; made by bootstrap, handed to the app."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from luma_memory.bootstrap.service import Service
from luma_memory.domain.errors import UnavailableError


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _enabled_service(request: Request) -> Service:
    service: Service = request.app.state.service
    if not service.settings.system_enabled:
        raise UnavailableError("The memory system is switched off", code="system_disabled")
    return service


ServiceDep = Annotated[Service, Depends(_service)]
EnabledServiceDep = Annotated[Service, Depends(_enabled_service)]
