-- Blocks: ingest, read, write-back of enrichment.

-- name: block_columns
-- In the names of domain.block.Block.
b.id, b.project_id, b.user_id, b.content, b.status, b.enrichment,
    coalesce(b.occurred_at, b.created_at) AS occurred_at, b.utc_offset_minutes, b.created_at, b.updated_at,
    b.revision, b.agent_id, b.session_id, b.speaker, b.source, b.external_id, b.metadata,
    b.expires_at, b.title, b.summary, b.tags, b.entities, b.importance, b.language, b.error,
    b.superseded_by, b.superseded_at, b.job_id, b.repeat_count, b.enriched_revision, b.enrichment_model,
    b.backfill_steps, b.namespace, b.key

-- name: ingest
-- Blocks, passages and jobs of many items in one transaction; one row per item, in order.
SELECT block_id, job_id, created, same_request, repeats
FROM ingest_memory_blocks($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)

-- name: locked_scopes
-- Users whose rows are locked against a statement that raises their version.
WITH free AS MATERIALIZED (
    SELECT project_id, user_id FROM memory_users
    WHERE (project_id, user_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
    FOR NO KEY UPDATE SKIP LOCKED
)
SELECT u.project_id, u.user_id
FROM unnest($1::text[], $2::text[]) AS k (project_id, user_id)
JOIN memory_users AS u USING (project_id, user_id)
WHERE NOT EXISTS (SELECT FROM free AS f WHERE f.project_id = u.project_id AND f.user_id = u.user_id)

-- name: read_blocks
-- Blocks by key, in any order; foreign and missing ids yield no row alike.
SELECT /*block_columns*/
FROM unnest($1::text[], $2::text[], $3::uuid[]) AS k (project_id, user_id, id)
-- Key by key: as a join, a small table would be read completely for a few blocks.
CROSS JOIN LATERAL (SELECT * FROM memory_blocks AS m
    WHERE m.project_id = k.project_id AND m.user_id = k.user_id AND m.id = k.id
      -- An expired item is gone.
      AND (m.key IS NULL OR m.expires_at IS NULL OR m.expires_at > now()) OFFSET 0) AS b

-- name: read_to_enrich
-- Columns in the order of `domain.block.BlockToEnrich`; rows in any order.
-- Foreign and missing ids yield no row alike.
SELECT b.project_id, b.user_id, b.id, b.content, b.speaker, b.session_id,
       coalesce(b.occurred_at, b.created_at), b.utc_offset_minutes, b.created_at, b.status, b.revision, b.enrichment,
       b.enriched_revision, b.language, b.error, b.backfill_steps,
       -- No EXISTS: for many keys, a small table would be read completely for that.
       b.language IS NULL AND coalesce((
           SELECT p.start_at = 0 AND p.stop_at = length(b.content) FROM memory_passages AS p
           WHERE p.project_id = b.project_id AND p.user_id = b.user_id AND p.block_id = b.id
             AND p.ordinal = 0), false),
       b.key IS NOT NULL
FROM unnest($1::text[], $2::text[], $3::uuid[]) AS k (project_id, user_id, id)
-- Key by key: as a join, a small table would be read completely for a few blocks.
CROSS JOIN LATERAL (SELECT * FROM memory_blocks AS m
    WHERE m.project_id = k.project_id AND m.user_id = k.user_id AND m.id = k.id OFFSET 0) AS b

-- name: store_enrichment
-- Derived facts of a block whose vectors are still missing; its job continues.
SELECT keep_memory_enrichment($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: embedded_ordinals
-- Passages of a block that have a vector of this model.
SELECT ordinal FROM memory_passages
WHERE project_id = $1 AND user_id = $2 AND block_id = $3 AND ordinal >= 0
  AND embedding IS NOT NULL AND embedding_model = $4

-- name: store_vectors
-- Vectors of some passages of a long block, before the others are computed.
SELECT ordinal FROM store_memory_vectors($1, $2, $3, $4, $5, $6, $7) AS ordinal

-- name: write_back
-- Results of many jobs: store them and complete the jobs; returns the positions that were stored.
SELECT position FROM complete_memory_enrichments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
    $13, $14, $15, $16, $17, $18) AS done (position)
