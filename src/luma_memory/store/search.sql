-- name: scan_scope
-- Both retrievers over every live passage of a scope, in one pass.
--
-- $1 project, $2 user, $3 query vector or NULL, $4 its model, $5 all query terms as one vector,
-- $6 names whose keys are wanted, $7 the instant of the scope's state, or NULL for now, $8 whether
-- superseded blocks count, $9 the terms one by one; the parameters of a filter follow. The first placeholder below becomes
-- one weight column a term, built from the term's position alone, the second the filter's condition, built
-- from operators alone; between them is whether items take part, and which. Columns come back as packed big-endian arrays: 10,000 rows as rows cost more to
-- decode than to compute. A passage without any of the terms (most of them) is weighed once, not once
-- a term; `matched` lists the rows that the weight columns are about.
SELECT string_agg(uuid_send(p.block_id), '') AS block_ids,
       string_agg(int4send(p.ordinal), '') AS ordinals,
       string_agg(int8send(coalesce(hashtextextended(p.session_id, 0), 0)), '') AS sessions,
       string_agg(timestamptz_send(p.occurred_at), '') AS instants,
       string_agg(int8send(coalesce(p.speaker_key, 0)), '') AS speakers,
       string_agg(float4send(CASE WHEN p.embedding_model = $4 THEN (-(p.embedding <#> $3))::real
                                  ELSE 'NaN' END), '') AS dense,
       string_agg(float4send(p.matched), '') AS matched,
       (SELECT string_agg(int4send(hashtext(lower(n.name))), '' ORDER BY n.place)
        FROM unnest($6::text[]) WITH ORDINALITY AS n (name, place)) AS name_keys
       /*term_columns*/
FROM (
    SELECT m.block_id, m.ordinal, m.session_id, m.occurred_at, m.speaker_key,
           m.embedding_model, m.embedding, m.lexemes, (-(m.lexemes <#> $5))::real AS matched
    FROM memory_passages AS m
    WHERE m.project_id = $1 AND m.user_id = $2
      AND (m.expires_at IS NULL OR m.expires_at > coalesce($7::timestamptz, now()))
      AND ($7::timestamptz IS NULL OR m.occurred_at <= $7)
      -- Leaves out superseded blocks; for an earlier instant, only those superseded by then.
      AND ($8::boolean OR m.block_id NOT IN (
          SELECT s.id FROM memory_blocks AS s
          LEFT JOIN memory_blocks AS t
            ON t.project_id = s.project_id AND t.user_id = s.user_id AND t.id = s.superseded_by
          WHERE s.project_id = $1 AND s.user_id = $2 AND s.superseded_at IS NOT NULL
            AND ($7::timestamptz IS NULL
                 OR coalesce(t.occurred_at, t.created_at, s.superseded_at) <= $7)))
      /*items*/
      /*filter*/
    OFFSET 0  -- keeps the planner from computing `matched` once a column
) AS p

-- name: own_speaker
-- The user's name as a speaker, in the newest blocks: one range of the primary key.
SELECT b.speaker
FROM (SELECT r.speaker FROM memory_blocks AS r
      WHERE r.project_id = $1 AND r.user_id = $2 ORDER BY r.id DESC LIMIT 100) AS b
WHERE lower(b.speaker) = lower($2) OR split_part(lower(b.speaker), ' ', 1) = lower($2)
LIMIT 1
