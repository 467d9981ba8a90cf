"""The rules for SQL that can be spread over partitions."""

from __future__ import annotations

import pytest
from tools.sql_rules import faults

STORE = "src/luma_memory/store/things.sql"


def found(statement: str, *, path: str = STORE, **listed: str) -> list[str]:
    name = "-- name: thing\n" if path == STORE else ""
    reasons = {key.replace("__", "."): reason for key, reason in listed.items()}
    return [*faults({path: name + statement}, reasons)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM memory_blocks WHERE project_id = $1 AND user_id = $2",
        "SELECT b.id FROM unnest($1) AS k (user_id) JOIN memory_blocks AS b USING (user_id)",
        "SELECT FROM memory_users WHERE (project_id, user_id) IN (SELECT * FROM unnest($1, $2))",
        "INSERT INTO memory_jobs AS j (project_id, user_id, run_at) VALUES ($1, $2, now())",
        "SELECT FROM memory_secrets -- FROM memory_blocks\n WHERE name <> 'FROM memory_blocks'",
        """INSERT INTO memory_circuits AS c (name, at) VALUES ($1, now())
        ON CONFLICT (name) DO UPDATE SET at = excluded.at""",
        """WITH raised AS (UPDATE memory_users SET n = 1 WHERE user_id = $1 RETURNING user_id)
        SELECT user_id FROM raised""",
        """UPDATE memory_circuits AS c SET at = t.now FROM (SELECT now() AS now) AS t
        WHERE name = $1""",
    ],
)
def test_statements_of_one_user_and_of_none_pass(statement: str) -> None:
    assert found(statement) == []


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("SELECT project_id, user_id FROM memory_jobs WHERE id = $1", "cross-scope"),
        ("SELECT count(*), $1::text AS user_id FROM memory_blocks AS b", "cross-scope"),
        # Each query for itself: the outer one's condition does not count for the inner one.
        (
            """SELECT id FROM memory_blocks AS b WHERE b.user_id = $1 AND NOT EXISTS
            (SELECT FROM memory_jobs AS j WHERE j.block_id = b.id)""",
            "cross-scope",
        ),
        (
            """SELECT b.id FROM memory_users AS u JOIN memory_jobs AS j ON j.id = $2
            JOIN memory_blocks AS b ON b.id = j.block_id WHERE u.user_id = $1""",
            "join",
        ),
        (
            """UPDATE memory_blocks SET a = 1 WHERE user_id = $1
            AND EXISTS (SELECT FROM memory_api_keys WHERE prefix = $2)""",
            "home",
        ),
        ("UPDATE memory_circuits AS c SET at = now() WHERE name = $1", "clock"),
        # Also through a part between the two.
        (
            """WITH raised AS (UPDATE memory_users SET n = 1 WHERE user_id = $1 RETURNING user_id),
            same AS (SELECT user_id FROM raised)
            INSERT INTO memory_changes (user_id) SELECT user_id FROM same""",
            "returned",
        ),
        (
            """INSERT INTO memory_circuits AS c (name, at) VALUES ($1, $2) ON CONFLICT (name)
            DO UPDATE SET at = c.at + interval '1 s'""",
            "interval",
        ),
        (
            """INSERT INTO memory_circuits (name) VALUES ($1) ON CONFLICT (name) DO UPDATE
            SET at = greatest(memory_circuits.at, clock_timestamp())""",
            "clock",
        ),
        ("DELETE FROM memory_circuits WHERE at < coalesce($1, now())", "clock"),
        (
            "INSERT INTO memory_circuits (n) SELECT CASE WHEN $1 THEN nextval('s') END",
            "clock",
        ),
        ("UPDATE memory_circuits SET at = p_times[d.n] FROM d WHERE name = $1", "subscript"),
    ],
)
def test_what_cannot_be_spread_is_named(statement: str, rule: str) -> None:
    (message,) = {message.split(";")[0] for message in found(statement)}
    assert message.startswith(f"things.thing: {rule}: ")


def test_the_list_permits_a_statement_and_may_hold_no_others() -> None:
    statement = "SELECT id FROM memory_jobs WHERE id = $1"
    assert found(statement, things__thing="by its id") == []
    assert found("SELECT 1", things__thing="by its id") == [
        "things.thing: on the list, but nothing is found there"
    ]
    # Not a clock: no reason makes a distributed engine accept it.
    clock = "UPDATE memory_jobs SET at = now() WHERE id = $1"
    assert [message.split(": ")[1] for message in found(clock, things__thing="by its id")] == [
        "clock"
    ]


def test_functions_and_literals_are_read_too() -> None:
    body = "BEGIN\n    DELETE FROM memory_blocks WHERE id = p_id;\nEND"
    function = (
        "CREATE OR REPLACE FUNCTION drop_it(p_id uuid) RETURNS void LANGUAGE plpgsql AS $body$\n"
        f"{body} $body$;"
    )
    path = "src/luma_memory/migrations/definitions/drops.sql"
    (message,) = found(function, path=path)
    assert message.startswith("drops.drop_it: cross-scope: memory_blocks")
    python = (
        '"""DELETE FROM memory_blocks"""\nQUERY = "SELECT id FROM memory_blocks WHERE id = $1"\n'
    )
    (message,) = found(python, path="src/luma_memory/store/things.py")
    assert message.startswith("src/luma_memory/store/things.py:2: cross-scope")


def test_a_policy_has_no_subquery() -> None:
    path = "src/luma_memory/migrations/0099_policy.sql"
    policy = "EXECUTE format('ALTER POLICY own ON %I USING (user_id = {})', v_table);"
    assert found(policy.format("subject()"), path=path) == []
    (message,) = found(policy.format("(SELECT subject())"), path=path)
    assert message == f"{path}: policy: a subquery in a policy"
