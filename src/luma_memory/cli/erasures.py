"""`verify-erasure`: whether a receipt of an erased user holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from luma_memory.bootstrap.operators import open_erasing
from luma_memory.cli.commands import examples
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console, printable, say_note
from luma_memory.cli.running import run_async
from luma_memory.domain.erasure import Receipt, Verdict
from luma_memory.domain.errors import Invalid
from luma_memory.protocol.users import ReceiptBody
from luma_memory.settings import Settings, load_settings

_RECEIPT_BYTES_MAX = 100_000


@examples(
    "luma-memory verify-erasure receipt.json",
    "curl -X DELETE …/users/ada | tee receipt.json | luma-memory verify-erasure -",
)
def verify_erasure(
    receipt: Annotated[
        Path,
        typer.Argument(
            metavar="RECEIPT|-", help="The answer of DELETE /users/{user_id}; - reads it."
        ),
    ],
    data_dir: DataDir = None,
) -> None:
    """Look whether a user's erasure holds: the receipt is genuine, and nothing is left.

    Every table that can name a user is looked through, in the database itself. What was stored for
    the user after the erasure is no contradiction, and is said. The exit code is 1 when the receipt
    does not hold.
    """
    given = _read(receipt)
    verdict = run_async(_verify(load_settings(data_dir=data_dir), given))
    _say(given, verdict)
    if not verdict.holds:
        raise typer.Exit(1)


def _read(path: Path) -> Receipt:
    try:
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as file:
            return ReceiptBody.model_validate_json(file.read(_RECEIPT_BYTES_MAX)).receipt()
    except ValidationError:
        raise Invalid(
            f"{printable(str(path))} is no receipt of an erasure", code="receipt_unreadable"
        ) from None


async def _verify(settings: Settings, receipt: Receipt) -> Verdict:
    async with open_erasing(settings) as erasing:
        return await erasing.verify(receipt)


def _say(receipt: Receipt, verdict: Verdict) -> None:
    if not verdict.is_genuine:
        say_note("this receipt was not made by this installation, or was changed")
    for kind, count in sorted(verdict.remaining.items()):
        say_note(f"{kind}: {count} rows name the user")
    if verdict.stored_again_at is not None:
        say_note(f"the user was stored anew at {verdict.stored_again_at.isoformat()}")
    deleted = sum(receipt.erasure.counts.values())
    if verdict.holds:
        erased_at = receipt.erasure.erased_at.isoformat()
        console().print(f"holds: {deleted} rows were erased at {erased_at}, none is left")
    else:
        console().print("does not hold")
