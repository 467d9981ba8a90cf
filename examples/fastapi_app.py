"""A web application in which every user has a key that opens only their own memory.

Create a key per user; it is restricted to that user of the project, so a mistake in this
application cannot reveal another user's memory:

    .venv/bin/luma-memory keys create --permission ingest --permission read --user ada

Write a file that maps the application's own tokens to users and keys, and start the application:

    {"token-of-ada": {"user_id": "ada", "key": "lmk_..."}}

    NOTES_USERS=users.json .venv/bin/python -m uvicorn --app-dir examples fastapi_app:app

    curl -s http://127.0.0.1:8000/notes -H 'Authorization: Bearer token-of-ada' \\
      -H 'Content-Type: application/json' -d '{"text": "I am allergic to nuts."}'
    curl -s 'http://127.0.0.1:8000/notes?q=allergies' -H 'Authorization: Bearer token-of-ada'
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from luma_memory.client import AsyncMemoryClient, LumaMemoryError, UnavailableError


@dataclass(frozen=True)
class User:
    user_id: str
    memory: AsyncMemoryClient


def known_users() -> dict[str, dict[str, str]]:
    """By the application's own tokens: `user_id` and `key`."""
    path = Path(os.environ["NOTES_USERS"])
    users: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return users


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client per user, because a client holds one key and a connection pool."""
    url = os.environ.get("MEMORY_URL", "http://127.0.0.1:8080")
    async with AsyncExitStack() as stack:
        app.state.users = {
            token: User(
                user_id=entry["user_id"],
                memory=await stack.enter_async_context(
                    AsyncMemoryClient(url, api_key=entry["key"])
                ),
            )
            for token, entry in known_users().items()
        }
        yield


app = FastAPI(title="Notes", lifespan=lifespan)


async def current_user(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
) -> User:
    user: User | None = app.state.users.get(credentials.credentials)
    if user is None:
        raise HTTPException(status_code=401, detail="unknown token")
    return user


CurrentUser = Annotated[User, Depends(current_user)]


class NewNote(BaseModel):
    text: str


class Note(BaseModel):
    id: str
    text: str


@app.post("/notes", status_code=202)
async def add_note(note: NewNote, user: CurrentUser) -> dict[str, str]:
    accepted = await user.memory.ingest_block_async(
        {"user_id": user.user_id, "content": note.text, "source": "notes"}
    )
    return {"id": str(accepted.id)}


@app.get("/notes")
async def find_notes(q: str, user: CurrentUser) -> list[Note]:
    found = await user.memory.search(q, user_id=user.user_id, limit=5)
    return [Note(id=str(hit.block.id), text=hit.block.content) for hit in found.results]


@app.exception_handler(LumaMemoryError)
async def memory_error(_: Request, error: LumaMemoryError) -> JSONResponse:
    """503 if a retry can help, otherwise 422 with the service's stable code."""
    status = 503 if isinstance(error, UnavailableError) else 422
    return JSONResponse({"detail": str(error), "code": error.code}, status_code=status)
