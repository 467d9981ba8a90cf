-- What jobs read of their blocks, in the order of `domain.block.BlockToEnrich`; in any order of keys.
-- Foreign and missing ids yield no row alike.
SELECT b.project_id, b.user_id, b.id, b.content, b.speaker, b.session_id,
       coalesce(b.occurred_at, b.created_at), b.created_at, b.status, b.revision, b.enrichment,
       b.enriched_revision, b.language, b.error, b.backfill_steps,
       -- No EXISTS: for many keys, a table that is not large would be read whole for that.
       b.language IS NULL AND coalesce((
           SELECT p.start_at = 0 AND p.stop_at = length(b.content) FROM memory_passages AS p
           WHERE p.project_id = b.project_id AND p.user_id = b.user_id AND p.block_id = b.id
             AND p.ordinal = 0), false)
FROM unnest($1::text[], $2::text[], $3::uuid[]) AS k (project_id, user_id, id)
-- Key by key: as a join, a table that is not large is read whole for a handful of blocks.
CROSS JOIN LATERAL (SELECT * FROM memory_blocks AS m
    WHERE m.project_id = k.project_id AND m.user_id = k.user_id AND m.id = k.id OFFSET 0) AS b
