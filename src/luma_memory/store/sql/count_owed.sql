SELECT count(*) FILTER (WHERE b.backfill_at <= now()) AS due,
       count(*) FILTER (WHERE b.backfill_at > now() AND b.backfill_at < 'infinity') AS later,
       count(*) FILTER (WHERE b.backfill_at = 'infinity') AS asked
FROM memory_blocks AS b
WHERE b.backfill_at IS NOT NULL AND b.status = 'active'
  AND ($1::text IS NULL OR b.project_id = $1) AND ($2::text IS NULL OR b.user_id = $2)
