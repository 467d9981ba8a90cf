SELECT request_hash, status, headers, body
FROM memory_idempotency
WHERE project_id = $1 AND user_id = $2 AND idempotency_key = $3
