"""`verify-erasure`: verify the receipt of an erased user."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from luma_memory.bootstrap.operators import open_erasing
from luma_memory.cli.commands import examples
from luma_memory.cli.options import DataDir
from luma_memory.cli.output import console, print_note, printable
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
            metavar="RECEIPT|-",
            help="The response of DELETE /users/{user_id}; - reads standard input.",
        ),
    ],
    data_dir: DataDir = None,
) -> None:
    """Verify that a receipt is genuine and that none of the user's data is left.

    Searches every table that can refer to a user, directly in the database. Data stored for the
    user after the erasure is reported, but does not invalidate the receipt. Exits with 1 if the
    receipt is not valid.
    """
    given = _read(receipt)
    verdict = run_async(_verify(load_settings(data_dir=data_dir), given))
    _print(given, verdict)
    if not verdict.holds:
        raise typer.Exit(1)


def _read(path: Path) -> Receipt:
    try:
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as file:
            return ReceiptBody.model_validate_json(file.read(_RECEIPT_BYTES_MAX)).receipt()
    except ValidationError:
        raise Invalid(
            f"{printable(str(path))} is not an erasure receipt", code="receipt_unreadable"
        ) from None


async def _verify(settings: Settings, receipt: Receipt) -> Verdict:
    async with open_erasing(settings) as erasing:
        return await erasing.verify(receipt)


def _print(receipt: Receipt, verdict: Verdict) -> None:
    if not verdict.is_genuine:
        print_note("this receipt was not issued by this installation, or was modified")
    for kind, count in sorted(verdict.remaining.items()):
        print_note(f"{kind}: {count} rows refer to the user")
    if verdict.stored_again_at is not None:
        print_note(f"new data was stored for the user at {verdict.stored_again_at.isoformat()}")
    deleted = sum(receipt.erasure.counts.values())
    if verdict.holds:
        erased_at = receipt.erasure.erased_at.isoformat()
        console().print(f"valid: {deleted} rows were erased at {erased_at}, none is left")
    else:
        console().print("not valid")
