-- Waits for a transaction that is claiming the same key, and then finds it taken, or free again.
INSERT INTO memory_idempotency
    (project_id, user_id, idempotency_key, operation, request_hash, block_id)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (project_id, user_id, idempotency_key) DO NOTHING
RETURNING idempotency_key
