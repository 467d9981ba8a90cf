-- Of every scope: old answers are nobody's data any more.
DELETE FROM memory_idempotency WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM memory_idempotency
    WHERE created_at < now() - $1::interval
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED))
