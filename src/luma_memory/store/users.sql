-- name: read_user
-- The user's settings.
SELECT time_zone, created_at, last_ingest_at FROM memory_users WHERE project_id = $1 AND user_id = $2

-- name: set_time_zone
-- A time zone that PostgreSQL does not know fails here, and not later in the summaries of all users.
-- No result of recall changes, so the version stays.
INSERT INTO memory_users AS u (project_id, user_id, time_zone)
SELECT $1, $2, $3::text WHERE (now() AT TIME ZONE $3::text) IS NOT NULL
ON CONFLICT (project_id, user_id) DO UPDATE SET time_zone = excluded.time_zone
RETURNING time_zone, created_at, last_ingest_at
