-- Most jobs carry nothing: NULL costs the driver less than an empty object.
SELECT id, project_id, user_id, job_type, block_id, attempts, max_attempts,
       nullif(payload, '{}') AS payload
FROM claim_memory_jobs($1, $2, $3, $4, $5)
