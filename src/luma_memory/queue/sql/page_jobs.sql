-- Newest first: ids rise with the time of arrival.
SELECT j.id, j.project_id, j.user_id, j.block_id, j.job_type, j.payload, j.status, j.priority,
       j.attempts, j.max_attempts, j.run_at, nullif(j.fair_at, 'infinity') AS fair_at, j.locked_by,
       j.locked_until, j.unique_key, j.error_class, j.last_error, j.created_at, j.started_at,
       j.finished_at
FROM memory_jobs AS j
WHERE /*conditions*/
ORDER BY j.id DESC
LIMIT $1::integer
