-- name: relation_candidates
-- An active block, and its candidates for relations in the scope: the nearest by vector, those that
-- share most of its words, those nearby that name the same things, and the turns before it in its session.
-- Superseded blocks are included: a later block may replace them too. The block itself comes first.
-- $1 project, $2 user, $3 block; $4 how many per reason.
WITH me AS (
    SELECT b.id, b.session_id, b.entities, coalesce(b.occurred_at, b.created_at) AS occurred_at, b.created_at
    FROM memory_blocks AS b
    WHERE b.project_id = $1 AND b.user_id = $2 AND b.id = $3 AND b.status = 'active' AND b.key IS NULL
), mine AS (
    SELECT p.embedding, p.embedding_model, p.lexemes FROM memory_passages AS p
    WHERE p.project_id = $1 AND p.user_id = $2 AND p.block_id = $3 AND p.ordinal >= 0
    ORDER BY p.ordinal LIMIT 4
), near AS MATERIALIZED (
    SELECT p.block_id,
           max(CASE WHEN p.embedding_model = q.embedding_model
                    THEN (-(p.embedding <#> q.embedding))::real END) AS similarity,
           max((-(p.lexemes <#> q.lexemes))::real) AS overlap
    FROM memory_passages AS p CROSS JOIN mine AS q
    WHERE p.project_id = $1 AND p.user_id = $2 AND p.block_id <> $3 AND p.ordinal >= 0 AND NOT p.item
      AND (p.expires_at IS NULL OR p.expires_at > now())
    GROUP BY p.block_id
), previous AS (
    SELECT b.id FROM me JOIN memory_blocks AS b
      ON b.project_id = $1 AND b.user_id = $2 AND b.session_id = me.session_id
     AND (coalesce(b.occurred_at, b.created_at), b.id) < (me.occurred_at, me.id)
    ORDER BY coalesce(b.occurred_at, b.created_at) DESC, b.id DESC LIMIT 3
), around AS (
    SELECT n.block_id FROM near AS n ORDER BY coalesce(n.similarity, 0) + 0.02 * n.overlap DESC LIMIT 200
), named AS (
    SELECT b.id
    FROM around AS a
    JOIN memory_blocks AS b ON b.project_id = $1 AND b.user_id = $2 AND b.id = a.block_id
    CROSS JOIN me
    CROSS JOIN LATERAL (
        SELECT count(DISTINCT lower(e.value ->> 'name')) AS shared
        FROM jsonb_array_elements(b.entities) AS e
        JOIN jsonb_array_elements(me.entities) AS f ON lower(e.value ->> 'name') = lower(f.value ->> 'name')
        WHERE e.value ->> 'kind' NOT IN ('date', 'number')
    ) AS s
    WHERE s.shared > 0
    ORDER BY s.shared DESC, b.id DESC LIMIT $4
), chosen AS (
    (SELECT block_id AS id FROM near WHERE similarity > 0 ORDER BY similarity DESC, block_id LIMIT 2 * $4)
    UNION (SELECT block_id FROM near WHERE overlap > 0 ORDER BY overlap DESC, block_id LIMIT $4)
    UNION (SELECT id FROM named)
    UNION (SELECT id FROM previous)
)
SELECT b.id, b.revision, b.content, coalesce(b.occurred_at, b.created_at) AS occurred_at, b.utc_offset_minutes,
       b.created_at, b.session_id, b.speaker, b.entities, n.similarity, coalesce(n.overlap, 0) AS overlap,
       b.id = (SELECT id FROM previous LIMIT 1) IS TRUE AS is_previous
FROM me
JOIN memory_blocks AS b ON b.project_id = $1 AND b.user_id = $2
LEFT JOIN near AS n ON n.block_id = b.id
WHERE b.id = ANY (ARRAY(SELECT id FROM chosen UNION SELECT id FROM me))
  AND (b.id = $3 OR b.status = 'active')
ORDER BY b.id <> $3, coalesce(n.similarity, 0) + 0.02 * coalesce(n.overlap, 0) DESC, b.id

-- name: admit_relations
-- Reserve one of the user's detections of a time window, or a slot in a later one.
SELECT is_mine, granted, retry_at, is_news FROM admit_memory_relations($1, $2, $3, $4, $5)

-- name: store_relations
-- Store relations whose blocks are unchanged since they were read, and complete the job.
SELECT is_mine, stored FROM relate_memory_block($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)

-- name: decide_relation
-- Accept or reject a relation.
SELECT decide_memory_relation($1, $2, $3, $4, $5) AS found

-- name: enqueue_relations
-- Enqueue detections for active blocks that never had one, in order of their keys after ($3, $4, $5), behind
-- those of fresh blocks. $1, $2: of one project or user, or NULL; $6 at most, $7 attempts, $8 whether it only
-- counts. The unique key is the one used when a block becomes active, so no block gets a second job.
WITH page AS (
    SELECT b.project_id, b.user_id, b.id, b.revision FROM memory_blocks AS b
    WHERE b.status = 'active' AND b.related_at IS NULL
      AND ($1::text IS NULL OR b.project_id = $1) AND ($2::text IS NULL OR b.user_id = $2)
      AND (b.project_id, b.user_id, b.id) > ($3, $4, $5)
    ORDER BY b.project_id, b.user_id, b.id LIMIT $6
), fresh AS (
    SELECT p.*, 'detect_relations:' || p.id || ':' || p.revision AS key
    FROM page AS p
    WHERE NOT EXISTS (
        SELECT FROM memory_jobs AS j
        WHERE j.project_id = p.project_id AND j.user_id = p.user_id
          AND j.unique_key = 'detect_relations:' || p.id || ':' || p.revision)
), jobs AS (
    SELECT array_agg(f.project_id ORDER BY f.id) AS projects, array_agg(f.user_id ORDER BY f.id) AS users,
           array_agg(f.id ORDER BY f.id) AS blocks, array_agg(f.key ORDER BY f.id) AS keys,
           count(*)::integer AS count
    FROM fresh AS f
)
SELECT (SELECT count(*) FROM page) AS seen, last.project_id, last.user_id, last.id,
       CASE WHEN $8 OR j.count = 0 THEN j.count ELSE (
           SELECT count(*)::integer FROM enqueue_memory_jobs(j.projects, j.users,
               array_fill('detect_relations'::text, ARRAY[j.count]), j.blocks,
               array_fill(NULL::jsonb, ARRAY[j.count]), array_fill(-6, ARRAY[j.count]),
               array_fill(NULL::timestamptz, ARRAY[j.count]), j.keys, $7, '0 ms'))
       END AS enqueued
FROM jobs AS j
CROSS JOIN (SELECT p.* FROM page AS p ORDER BY p.project_id DESC, p.user_id DESC, p.id DESC LIMIT 1) AS last

-- name: relation_links
-- Accepted relations of some blocks other than `related`, the most certain first.
SELECT r.source_id, r.target_id, r.type, r.confidence FROM memory_relations AS r
WHERE r.project_id = $1 AND r.user_id = $2 AND r.status = 'accepted' AND r.type <> 'related'
  AND (r.source_id = ANY ($3) OR r.target_id = ANY ($3))
ORDER BY r.confidence DESC, r.id
LIMIT $4

-- name: page_relations
-- Newest first. $3 continues before an id; $4 of one block, $5 of a type, $6 in a state, $7 by its id.
SELECT r.id, r.source_id, r.target_id, r.type, r.confidence, r.evidence, r.model, r.status, r.decided_by,
       r.created_at, r.updated_at
FROM memory_relations AS r
WHERE r.project_id = $1 AND r.user_id = $2
  AND ($3::uuid IS NULL OR r.id < $3)
  AND ($4::uuid IS NULL OR r.source_id = $4 OR r.target_id = $4)
  AND ($5::text IS NULL OR r.type = $5)
  AND ($6::text IS NULL OR r.status = $6)
  AND ($7::uuid IS NULL OR r.id = $7)
ORDER BY r.id DESC
LIMIT $8
