-- Blocks that a provider refused for good before this version have no backfill pending: with the key
-- or the account repaired, `luma-memory backfill` could not find them. It makes what they lack now.
UPDATE memory_blocks AS b SET backfill_steps = s.steps, backfill_at = 'infinity'
FROM (SELECT project_id, user_id, id, array_remove(ARRAY[
          CASE WHEN enrichment IN ('none', 'fallback') THEN 'enrich' END,
          CASE WHEN EXISTS (SELECT FROM memory_passages AS p
                            WHERE p.project_id = m.project_id AND p.user_id = m.user_id
                              AND p.block_id = m.id AND p.ordinal >= 0 AND p.embedding IS NULL)
               THEN 'embed' END], NULL) AS steps
      FROM memory_blocks AS m
      WHERE status = 'active' AND error IS NOT NULL AND backfill_at IS NULL) AS s
WHERE b.project_id = s.project_id AND b.user_id = s.user_id AND b.id = s.id AND s.steps <> '{}';
