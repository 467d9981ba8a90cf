-- Blocks by key, in any order; foreign and missing ids yield no row alike.
SELECT b.id, b.project_id, b.user_id, b.content, b.status, b.enrichment,
       coalesce(b.occurred_at, b.created_at) AS occurred_at, b.created_at, b.updated_at,
       b.revision, b.agent_id, b.session_id, b.speaker, b.source, b.external_id, b.metadata,
       b.expires_at, b.title, b.summary, b.tags, b.entities, b.importance, b.language, b.error,
       b.superseded_by, b.superseded_at, b.job_id, b.repeat_count, b.enriched_revision, b.enrichment_model,
       b.backfill_steps
FROM unnest($1::text[], $2::text[], $3::uuid[]) AS k (project_id, user_id, id)
-- Key by key: as a join, a table that is not large is read whole for a handful of blocks.
CROSS JOIN LATERAL (SELECT * FROM memory_blocks AS m
    WHERE m.project_id = k.project_id AND m.user_id = k.user_id AND m.id = k.id OFFSET 0) AS b
