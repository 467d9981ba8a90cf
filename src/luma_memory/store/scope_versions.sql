-- name: scope_state
-- Always one row. clock_timestamp() and not now(): a cache entry is compared with the time of this read.
SELECT coalesce((SELECT u.version FROM memory_users AS u
                 WHERE u.project_id = $1 AND u.user_id = $2), 0) AS version,
       t.read_at,
       (SELECT min(p.expires_at) FROM memory_passages AS p
        WHERE p.project_id = $1 AND p.user_id = $2 AND p.expires_at > t.read_at) AS next_expiry_at
FROM (SELECT clock_timestamp() AS read_at OFFSET 0) AS t
