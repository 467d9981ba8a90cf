-- name: register_model
-- A model without any vectors is dropped: it was configured once and never used.
WITH unused AS (
    UPDATE memory_embedding_models AS u SET retired_at = t.now
    FROM (SELECT now() AS now OFFSET 0) AS t
    WHERE u.id <> $1 AND u.retired_at IS NULL
      AND NOT EXISTS (SELECT FROM memory_passages AS p WHERE p.embedding_model = u.id)
)
INSERT INTO memory_embedding_models AS m (id, first_used_at) VALUES ($1, now())
ON CONFLICT (id) DO UPDATE SET retired_at = NULL,
    -- A model that is used again starts over: others have been in use for longer.
    first_used_at = CASE WHEN m.retired_at IS NULL THEN m.first_used_at
                         ELSE excluded.first_used_at END

-- name: models_in_use
-- Models that stored vectors may belong to, the one used longest first.
SELECT id FROM memory_embedding_models WHERE retired_at IS NULL ORDER BY first_used_at, id

-- name: scope_model
-- The embedding model of a scope's vectors.
SELECT model FROM memory_scope_models WHERE project_id = $1 AND user_id = $2

-- name: read_calibration
-- $1 model; no row before the first measurement.
SELECT background_mean AS mean, background_deviation AS deviation FROM memory_embedding_models
WHERE id = $1 AND background_mean IS NOT NULL AND background_deviation IS NOT NULL

-- name: store_calibration
-- If measured twice concurrently, the first measurement stays: scores computed with it remain valid.
UPDATE memory_embedding_models SET background_mean = $2, background_deviation = $3
WHERE id = $1 AND background_mean IS NULL

-- name: request_model
-- Request that all vectors use this model; withdraws an earlier request.
WITH others AS (
    UPDATE memory_embedding_models SET wanted_at = NULL WHERE id <> $1 AND wanted_at IS NOT NULL
)
INSERT INTO memory_embedding_models AS m (id, wanted_at) VALUES ($1, now())
ON CONFLICT (id) DO UPDATE SET retired_at = NULL, wanted_at = coalesce(m.wanted_at, excluded.wanted_at)

-- name: requested_model
-- The requested model while the switch is not finished.
SELECT id FROM memory_embedding_models WHERE wanted_at IS NOT NULL LIMIT 1

-- name: enqueue_reembeds
-- Enqueue re-embedding jobs for scopes with stale passages.
SELECT enqueue_memory_reembeds($1, $2, $3) AS made

-- name: stale_passages
-- Passages of a scope that have no vector of model $3 yet.
SELECT m.block_id, m.ordinal, b.revision, b.speaker,
       substring(b.content FROM m.start_at + 1 FOR m.stop_at - m.start_at) AS text
FROM memory_passages AS m
JOIN memory_blocks AS b ON b.project_id = m.project_id AND b.user_id = m.user_id AND b.id = m.block_id
WHERE m.project_id = $1 AND m.user_id = $2 AND m.ordinal >= 0
  AND m.embedding_model IS DISTINCT FROM $3 AND m.embedding_model IS DISTINCT FROM 'none:' || $3
  AND b.status <> 'pending_enrichment'
  AND NOT EXISTS (SELECT FROM memory_next_passages AS n
      WHERE n.project_id = m.project_id AND n.user_id = m.user_id AND n.block_id = m.block_id
        AND n.ordinal = m.ordinal AND n.model = $3 AND n.revision = b.revision)
ORDER BY m.block_id, m.ordinal
LIMIT $4

-- name: store_next_vectors
-- Only for blocks that exist: nothing erased meanwhile is stored again.
WITH known AS (
    SELECT b.id FROM memory_blocks AS b
    WHERE b.project_id = $1 AND b.user_id = $2 AND b.id = ANY ($4::uuid[])
    ORDER BY b.id FOR KEY SHARE
)
INSERT INTO memory_next_passages AS n (project_id, user_id, block_id, ordinal, revision, model, embedding)
SELECT $1, $2, i.block_id, i.ordinal, i.revision, $3, i.embedding
FROM unnest($4::uuid[], $5::integer[], $6::integer[], $7::halfvec[])
     AS i (block_id, ordinal, revision, embedding)
JOIN known AS k ON k.id = i.block_id
ON CONFLICT (project_id, user_id, block_id, ordinal) DO UPDATE
SET revision = excluded.revision, model = excluded.model, embedding = excluded.embedding

-- name: switch_vectors
-- Put a scope's prepared vectors in use.
SELECT move_memory_vectors($1, $2, $3) AS moved

-- name: bump_scope_version
-- The results of recall have changed.
SELECT raise_memory_version($1, $2, NULL, now())

-- name: reembed_progress
-- How many passages of all scopes have a vector of model $1, in use or prepared.
SELECT EXISTS (SELECT FROM memory_embedding_models WHERE id = $1 AND wanted_at IS NOT NULL) AS requested,
       count(*) AS total,
       count(*) FILTER (WHERE m.embedding_model IN ($1, 'none:' || $1))
           + (SELECT count(*) FROM memory_next_passages AS n WHERE n.model = $1) AS done
FROM memory_passages AS m
WHERE m.ordinal >= 0
