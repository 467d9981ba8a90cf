-- Newest first: ids are UUIDv7, so the primary key read backwards is the order of arrival.
SELECT b.id, b.project_id, b.user_id, b.content, b.status, b.enrichment,
       coalesce(b.occurred_at, b.created_at) AS occurred_at, b.created_at, b.updated_at,
       b.revision, b.agent_id, b.session_id, b.speaker, b.source, b.external_id, b.metadata,
       b.expires_at, b.title, b.summary, b.tags, b.entities, b.importance, b.language, b.error,
       b.superseded_by, b.superseded_at, b.job_id, b.repeat_count, b.enriched_revision, b.enrichment_model,
       b.backfill_steps
FROM memory_blocks AS b
WHERE b.project_id = $1 AND b.user_id = $2
  AND ($3::uuid IS NULL OR b.id < $3)
  AND ($4::text IS NULL OR b.status = $4)
  AND ($5::text IS NULL OR b.session_id = $5)
ORDER BY b.id DESC
LIMIT $6
