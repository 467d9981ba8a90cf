-- name: erase_user
-- Delete every row of a user in one transaction and record the erasure.
SELECT counts, erased_at FROM erase_memory_user($1, $2, $3, $4, $5, $6, $7, $8)

-- name: count_user_rows
-- Rows that name the user, per table.
SELECT name, count FROM count_memory_rows($1, $2)

-- name: job_span
-- The lowest and highest id of the jobs of all users.
SELECT coalesce(min(id), 0) AS first, coalesce(max(id), 0) AS last FROM memory_jobs

-- name: sweep_jobs
-- Delete the user's jobs with ids after $3, in one step of $4 ids.
SELECT sweep_memory_jobs($1, $2, $3, $4) AS deleted

-- name: next_job
-- The first job after an id.
SELECT min(id) AS id FROM memory_jobs WHERE id > $1

-- name: find_erasure
-- An erasure by its id or by the digest of its idempotency key.
SELECT id, counts, started_at, erased_at FROM memory_erasures
WHERE project_id = $1 AND user_digest = memory_user_digest($1, $2)
  AND ($3::uuid IS NULL OR id = $3) AND ($4::bytea IS NULL OR key_digest = $4)

-- name: user_since
-- When the user's own row was created.
SELECT created_at FROM memory_users WHERE project_id = $1 AND user_id = $2

-- name: revoke_user_keys
-- As `erase_memory_user` does, where keys are in another partition than the user. With the last one gone the
-- API still requires a key: the rows stay.
WITH revoked AS (
    UPDATE memory_api_keys AS k SET revoked_at = coalesce(k.revoked_at, t.now), user_id = '', name = NULL
    FROM (SELECT now() AS now OFFSET 0) AS t
    WHERE k.project_id = $1 AND k.user_id = $2 RETURNING k.prefix
)
SELECT count(*) AS revoked FROM revoked

-- name: count_keys
-- The keys that were revoked in the home partition, in the record of the erasure.
UPDATE memory_erasures SET counts = counts || jsonb_build_object('api_keys', $4::bigint)
WHERE project_id = $1 AND user_digest = memory_user_digest($1, $2) AND id = $3
