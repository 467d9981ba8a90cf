UPDATE memory_idempotency SET status = $4, headers = $5, body = $6
WHERE project_id = $1 AND user_id = $2 AND idempotency_key = $3
