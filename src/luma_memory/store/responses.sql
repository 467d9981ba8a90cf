-- name: prune_responses
-- Expired responses of every scope.
DELETE FROM memory_idempotency WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM memory_idempotency
    WHERE created_at < now() - $1::interval
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED))

-- name: claim_key
-- Waits for a concurrent transaction that claims the same key, then finds it taken, or free again.
INSERT INTO memory_idempotency
    (project_id, user_id, idempotency_key, operation, request_hash, block_id)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (project_id, user_id, idempotency_key) DO NOTHING
RETURNING idempotency_key

-- name: read_response
-- The stored response of an idempotency key.
SELECT request_hash, status, headers, body
FROM memory_idempotency
WHERE project_id = $1 AND user_id = $2 AND idempotency_key = $3

-- name: store_response
-- Store the response in the transaction that claimed its key.
UPDATE memory_idempotency SET status = $4, headers = $5, body = $6
WHERE project_id = $1 AND user_id = $2 AND idempotency_key = $3
