"""Parameters of an address that only driver or server can judge: one sentence, no secret."""

from __future__ import annotations

import pytest

from luma_memory.domain.errors import SetupError
from luma_memory.postgres.database import Database

PASSWORD = "canary-password"


@pytest.mark.parametrize(
    "parameter", ["colour=red", "work_mem=much", "options=--colour", "statement_timeout=-7"]
)
async def test_an_unknown_server_parameter_is_reported_in_one_sentence(
    dsn: str, parameter: str
) -> None:
    address = dsn.replace("@", f":{PASSWORD}@", 1) + f"&{parameter}"
    for connect in (Database.open, Database.dedicated, Database.shares_sessions):
        database = Database(address)
        with pytest.raises(SetupError, match="DATABASE_URL") as raised:
            await connect(database)
        assert PASSWORD not in f"{raised.value}{raised.value.__cause__}"
        assert raised.value.code == "database_setup"
        await database.close()


async def test_a_setting_of_the_server_is_handed_on(dsn: str) -> None:
    database = Database(f"{dsn}&statement_timeout=4321")
    row = await database.fetch_row("SELECT current_setting('statement_timeout') AS value")
    await database.close()
    assert row is not None
    assert row["value"] == "4321ms"


async def test_address_errors_of_the_driver_are_reported_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGSSLMODE", "bogus")
    database = Database(f"postgresql://u:{PASSWORD}@127.0.0.1:9/db")
    with pytest.raises(SetupError, match="DATABASE_URL, or a PG… variable") as raised:
        await database.open()
    assert PASSWORD not in str(raised.value)
