-- An active block, and those of its scope that it may have to do with: the nearest by meaning, those that
-- share most of its words, those nearby that name the same things, and the turns before it in its session.
-- What was superseded is among them: a later block may replace it too. The block itself comes first.
-- $1 project, $2 user, $3 block; $4 how many by each reason.
WITH me AS (
    SELECT b.id, b.session_id, b.entities, coalesce(b.occurred_at, b.created_at) AS occurred_at, b.created_at
    FROM memory_blocks AS b
    WHERE b.project_id = $1 AND b.user_id = $2 AND b.id = $3 AND b.status = 'active'
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
    WHERE p.project_id = $1 AND p.user_id = $2 AND p.block_id <> $3 AND p.ordinal >= 0
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
SELECT b.id, b.revision, b.content, coalesce(b.occurred_at, b.created_at) AS occurred_at, b.created_at,
       b.session_id, b.speaker, b.entities, n.similarity, coalesce(n.overlap, 0) AS overlap,
       b.id = (SELECT id FROM previous LIMIT 1) IS TRUE AS is_previous
FROM me
JOIN memory_blocks AS b ON b.project_id = $1 AND b.user_id = $2
LEFT JOIN near AS n ON n.block_id = b.id
WHERE b.id = ANY (ARRAY(SELECT id FROM chosen UNION SELECT id FROM me))
  AND (b.id = $3 OR b.status = 'active')
ORDER BY b.id <> $3, coalesce(n.similarity, 0) + 0.02 * coalesce(n.overlap, 0) DESC, b.id
