"""Errors in mem0's form: a JSON object whose `detail` its clients show, with our stable `code`."""

from __future__ import annotations

import json

from luma_memory.protocol.problem import Problem

MEDIA_TYPE = "application/json"


def mem0_status(status: int) -> int:
    """mem0's status: what is invalid is 400."""
    return 400 if status == 422 else status


def mem0_error(problem: Problem) -> bytes:
    """The body of an error response."""
    body = problem.model_dump(mode="json", exclude_none=True, include=_FIELDS)
    return json.dumps(body, ensure_ascii=False).encode()


_FIELDS = {"detail", "code", "errors", "request_id"}
