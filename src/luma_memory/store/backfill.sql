-- name: enqueue_backfill
-- Enqueue jobs for due backfills unless one of the circuits in $2 is open.
SELECT enqueue_memory_backfill($1, $2) AS made

-- name: request_backfill
-- Make pending backfills due now, for at most $3 blocks.
SELECT request_memory_backfill($1, $2, $3) AS changed

-- name: count_pending_backfill
-- Blocks that lack an enrichment step, by when it is retried ('infinity': only on request).
SELECT count(*) FILTER (WHERE b.backfill_at <= now()) AS due,
       count(*) FILTER (WHERE b.backfill_at > now() AND b.backfill_at < 'infinity') AS later,
       count(*) FILTER (WHERE b.backfill_at = 'infinity') AS asked
FROM memory_blocks AS b
WHERE b.backfill_at IS NOT NULL AND b.status = 'active'
  AND ($1::text IS NULL OR b.project_id = $1) AND ($2::text IS NULL OR b.user_id = $2)
