-- The state of a scope on the primary and on a replica of it.

-- name: scope_mark
-- On the primary; no row for a user of whom nothing is stored. clock_timestamp() and not now(): see `scope_state`.
SELECT u.version,
       (SELECT m.changed_at FROM memory_scope_models AS m
        WHERE m.project_id = $1 AND m.user_id = $2) AS moved_at,
       timestamptz_send(clock_timestamp()) AS read_at
FROM memory_users AS u WHERE u.project_id = $1 AND u.user_id = $2

-- name: was_shown
-- Whether the scope had this version on the primary: $3.
SELECT FROM memory_changes AS c WHERE c.project_id = $1 AND c.user_id = $2 AND c.version = $3

-- name: replica_mark
-- The same on the replica, in the transaction that then reads: always one row. $3: whether items are read. Reading
-- an item can begin its time to live anew, which is the one change that raises no version. The index
-- memory_blocks_item_ttl has the scope as a number.
SELECT u.version,
       (SELECT m.changed_at FROM memory_scope_models AS m
        WHERE m.project_id = $1 AND m.user_id = $2) AS moved_at,
       timestamptz_send(clock_timestamp()) AS read_at,
       pg_is_in_recovery() AS is_standby,
       $3::boolean AND EXISTS (SELECT FROM memory_blocks AS b
           WHERE hashtextextended(b.user_id, hashtextextended(b.project_id, 0))
                 = hashtextextended($2, hashtextextended($1, 0))
             AND b.ttl_seconds IS NOT NULL
             AND (b.project_id, b.user_id) IS NOT DISTINCT FROM ($1, $2)) AS may_renew
FROM (SELECT) AS one
LEFT JOIN memory_users AS u ON u.project_id = $1 AND u.user_id = $2
