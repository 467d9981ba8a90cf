-- Most jobs carry nothing: NULL costs the driver less than an empty object.
SELECT id, project_id, user_id, job_type, block_id, attempts, max_attempts,
       nullif(payload, '{}') AS payload
FROM memory_jobs WHERE status = 'processing' AND locked_by = $1
