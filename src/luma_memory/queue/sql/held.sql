SELECT id, project_id, user_id, job_type, block_id, attempts, max_attempts, created_at,
       payload
FROM memory_jobs WHERE status = 'processing' AND locked_by = $1
