SELECT id, project_id, user_id, job_type, block_id, attempts, max_attempts, created_at,
       payload
FROM claim_memory_jobs($1, $2, $3, $4, $5)
