-- name: page_jobs
-- Newest first: ids rise with the time of arrival.
SELECT j.id, j.project_id, j.user_id, j.block_id, j.job_type, j.payload, j.status, j.priority,
       j.attempts, j.max_attempts, j.run_at, nullif(j.fair_at, 'infinity') AS fair_at, j.locked_by,
       j.locked_until, j.unique_key, j.error_class, j.last_error, j.created_at, j.started_at,
       j.finished_at, j.attempt_errors
FROM memory_jobs AS j
WHERE /*conditions*/
ORDER BY j.id DESC
LIMIT $1::integer

-- name: count_jobs
-- Jobs that match a filter.
SELECT count(*) AS jobs FROM memory_jobs AS j
WHERE /*conditions*/

-- name: retry_jobs
-- The function checks the states again, with the rows locked. The sum keeps the planner from
-- walking the primary key over all completed jobs instead of reading the few that have failed.
SELECT id FROM retry_memory_jobs(p_ids => ARRAY(
    SELECT j.id FROM memory_jobs AS j
    WHERE /*conditions*/
    ORDER BY j.id + 0 LIMIT $1::integer), p_limit => $1::integer) AS retried (id)
ORDER BY id

-- name: cancel_jobs
-- The function checks the states again, with the rows locked.
SELECT id FROM cancel_memory_jobs(p_ids => ARRAY(
    SELECT j.id FROM memory_jobs AS j
    WHERE /*conditions*/
    ORDER BY j.id LIMIT $1::integer), p_limit => $1::integer) AS cancelled (id)
ORDER BY id

-- name: clear_jobs
-- A job that a worker claims meanwhile is skipped.
DELETE FROM memory_jobs WHERE id = ANY (ARRAY(
    SELECT j.id FROM memory_jobs AS j
    WHERE /*conditions*/
    ORDER BY j.id LIMIT $1::integer FOR UPDATE SKIP LOCKED))
RETURNING id

-- name: enqueue_waiting
-- Enqueue jobs for pending blocks that have none.
SELECT id FROM enqueue_waiting_memory_blocks($1, $2, $3, $4) AS enqueued (id)

-- name: count_waiting
-- The blocks that enqueue_waiting_memory_blocks would find.
SELECT count(*) AS blocks FROM memory_blocks AS b
WHERE b.status = 'pending_enrichment'
  AND ($1::text IS NULL OR b.project_id = $1)
  AND ($2::text IS NULL OR b.user_id = $2)
  AND NOT EXISTS (SELECT FROM memory_jobs AS j
      WHERE j.block_id = b.id AND j.status IN ('pending', 'processing')
        AND j.job_type = 'enrich_and_embed'
        AND j.project_id = b.project_id AND j.user_id = b.user_id)

-- name: pause
-- Stop claims of a job type, or of all.
SELECT pause_memory_jobs($1)

-- name: resume
-- Allow claims again.
SELECT resume_memory_jobs($1)
