-- name: claim
-- Most jobs have no payload: NULL costs the driver less than an empty object.
SELECT id, project_id, user_id, job_type, block_id, attempts, max_attempts,
       nullif(payload, '{}') AS payload
FROM claim_memory_jobs($1, $2, $3, $4, $5)

-- name: fail
-- End an attempt with an error: retried after a backoff, or failed.
SELECT id, status FROM fail_memory_jobs($1, $2, $3, $4, $5, $6, $7)

-- name: rescue
-- Release jobs whose worker is gone.
SELECT rescue_memory_jobs($1) AS rescued

-- name: list_claimed
-- Most jobs have no payload: NULL costs the driver less than an empty object.
SELECT id, project_id, user_id, job_type, block_id, attempts, max_attempts,
       nullif(payload, '{}') AS payload
FROM memory_jobs WHERE status = 'processing' AND locked_by = $1

-- name: job_stats
-- Counts by status and the age of the oldest pending job.
SELECT pending, processing, completed, failed, deferred, oldest_pending_seconds,
       ARRAY(SELECT job_type FROM memory_job_pauses ORDER BY job_type) AS paused
FROM get_memory_job_stats()

-- name: allow_attempts
-- The worker's own limit of attempts for a job it is about to fail.
UPDATE memory_jobs SET max_attempts = $4
WHERE id = $1 AND attempts = $2 AND locked_by = $3 AND status = 'processing' AND max_attempts <> $4
  AND project_id = $5 AND user_id = $6

-- name: complete
-- One array: one row per job costs the driver more than completing the jobs.
SELECT array_agg(id) AS ids FROM complete_memory_jobs($1, $2, $3) AS completed (id)

-- name: release
-- Return claimed jobs without spending an attempt; one array, because one row per job costs the driver more.
SELECT array_agg(id) AS ids FROM release_memory_jobs($1, $2, $3, $4) AS released (id)

-- name: cancel
-- Cancel claimed jobs; one array, as in `complete`.
SELECT array_agg(id) AS ids FROM drop_memory_jobs($1, $2, $3, $4) AS dropped (id)
