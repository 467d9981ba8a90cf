-- Both retrievers over every live passage of a scope, in one pass.
--
-- $1 project, $2 user, $3 query vector or NULL, $4 its model, $5 all query terms as one vector,
-- $6 the terms one by one. The mark below becomes one weight column a term, built from the term's
-- position alone. Columns come back as packed big-endian arrays: 10,000 rows as rows
-- cost more to decode than to compute. A passage without any of the terms (most of them) is
-- weighed once, not once a term; `matched` says which rows the weight columns speak of.
SELECT string_agg(uuid_send(p.block_id), '') AS block_ids,
       string_agg(int4send(p.ordinal), '') AS ordinals,
       string_agg(float4send(CASE WHEN p.embedding_model = $4 THEN (-(p.embedding <#> $3))::real
                                  ELSE 'NaN' END), '') AS dense,
       string_agg(float4send(p.matched), '') AS matched
       /*term_columns*/
FROM (
    SELECT m.block_id, m.ordinal, m.embedding_model, m.embedding, m.lexemes,
           (-(m.lexemes <#> $5))::real AS matched
    FROM memory_passages AS m
    WHERE m.project_id = $1 AND m.user_id = $2
      AND (m.expires_at IS NULL OR m.expires_at > now())
    OFFSET 0  -- keeps the planner from computing `matched` once a column
) AS p
