"""Reads the report of an import."""

from __future__ import annotations

import json
from typing import Any

from luma_memory.domain.errors import Invalid, UnavailableError
from luma_memory.protocol.users import ImportProblemBody, ImportReportBody

_PROBLEMS_MAX = 1_000


class ImportReport:
    """Chunks of a report in, its end out."""

    def __init__(self) -> None:
        self._rest = b""
        self._problems: list[ImportProblemBody] = []
        self._end: dict[str, Any] | None = None

    def take(self, piece: bytes) -> None:
        """Raises Invalid with the service's code if the import stopped at an error."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if line:
                self._take(json.loads(line))

    def ended(self) -> ImportReportBody:
        """Raises UnavailableError (code export_incomplete) if the end is missing."""
        if self._end is None:
            raise UnavailableError("The report was cut off", code="export_incomplete")
        return ImportReportBody(**self._end, problems=self._problems)

    def _take(self, line: dict[str, Any]) -> None:
        match line.pop("kind", None):
            case "skipped":
                self._keep(line["where"], line["reason"], line["detail"])
            case "refused":
                self._keep(line["external_id"], f"refused: {line['code']}", line["detail"])
            case "error":
                raise Invalid(line["detail"], code=line["code"])
            case "end":
                self._end = line
            case _:
                pass  # progress

    def _keep(self, where: str, reason: str, detail: str) -> None:
        if len(self._problems) < _PROBLEMS_MAX:
            self._problems.append(ImportProblemBody(where=where, reason=reason, detail=detail))
