-- name: add_usage
-- In the order of the key, so that two workers do not wait for each other in a circle.
--
-- Spending for a user who was erased meanwhile is added to the project without a user: they must
-- not reappear in the usage. The lock keeps a user from being erased before this commits; an erasure
-- waits for it. Returns the users whose rows another transaction has locked: whether they are being
-- erased is not known yet, so nothing is added for them, and the others do not wait for them.
WITH live AS MATERIALIZED (
    SELECT m.project_id, m.user_id FROM memory_users AS m
    WHERE (m.project_id, m.user_id) IN (SELECT * FROM unnest($2::text[], $3::text[]))
    ORDER BY m.project_id, m.user_id FOR KEY SHARE SKIP LOCKED
), locked AS MATERIALIZED (
    SELECT m.project_id, m.user_id FROM memory_users AS m
    WHERE (m.project_id, m.user_id) IN (SELECT * FROM unnest($2::text[], $3::text[]))
      AND NOT EXISTS (SELECT FROM live AS l
          WHERE l.project_id = m.project_id AND l.user_id = m.user_id)
), item AS (
    SELECT x.day, x.project_id, x.operation, x.model, x.calls, x.input_tokens, x.output_tokens,
           x.cost_usd, x.blocks,
           CASE WHEN l.user_id IS NULL AND EXISTS (SELECT FROM memory_erasures AS e
                    WHERE e.project_id = x.project_id
                      AND e.user_digest = memory_user_digest(x.project_id, x.user_id)
                      AND e.erased_at > t.now - interval '1 day')
                THEN '' ELSE x.user_id END AS user_id
    FROM unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
        $7::bigint[], $8::bigint[], $9::numeric[], $10::bigint[]) AS x (day, project_id, user_id,
        operation, model, calls, input_tokens, output_tokens, cost_usd, blocks)
    CROSS JOIN (SELECT now() AS now OFFSET 0) AS t
    LEFT JOIN live AS l ON l.project_id = x.project_id AND l.user_id = x.user_id
    WHERE NOT EXISTS (SELECT FROM locked AS k
        WHERE k.project_id = x.project_id AND k.user_id = x.user_id)
), added AS (
    INSERT INTO memory_usage AS u (day, project_id, user_id, operation, model, calls, input_tokens,
        output_tokens, cost_usd, blocks)
    SELECT i.day, i.project_id, i.user_id, i.operation, i.model, sum(i.calls), sum(i.input_tokens),
           sum(i.output_tokens), sum(i.cost_usd), sum(i.blocks)
    FROM item AS i
    GROUP BY i.project_id, i.user_id, i.day, i.operation, i.model
    ORDER BY i.project_id, i.user_id, i.day, i.operation, i.model
    ON CONFLICT (project_id, user_id, day, operation, model) DO UPDATE
    SET calls = u.calls + excluded.calls, input_tokens = u.input_tokens + excluded.input_tokens,
        output_tokens = u.output_tokens + excluded.output_tokens,
        cost_usd = u.cost_usd + excluded.cost_usd, blocks = u.blocks + excluded.blocks
)
SELECT project_id, user_id FROM locked

-- name: spent
-- One row per scope, in order, also for scopes without usage.
SELECT coalesce(sum(u.calls), 0)::bigint AS calls,
       coalesce(sum(u.input_tokens), 0)::bigint AS input_tokens,
       coalesce(sum(u.output_tokens), 0)::bigint AS output_tokens,
       coalesce(sum(u.cost_usd), 0) AS cost_usd, coalesce(sum(u.blocks), 0)::bigint AS blocks
FROM unnest($1::text[], $2::text[], $3::date[]) WITH ORDINALITY AS k (project_id, user_id, day, n)
LEFT JOIN memory_usage AS u ON u.project_id = k.project_id AND u.user_id = k.user_id
    AND u.day = k.day
    -- Switching models is the operator's decision and not charged to the user.
    AND u.operation <> 'reembedding'
GROUP BY k.n ORDER BY k.n

-- name: usage_lines
-- Usage by day, operation and model, newest day first.
SELECT u.day, u.operation, u.model, sum(u.calls)::bigint AS calls,
       sum(u.input_tokens)::bigint AS input_tokens, sum(u.output_tokens)::bigint AS output_tokens,
       sum(u.cost_usd) AS cost_usd, sum(u.blocks)::bigint AS blocks
FROM memory_usage AS u
WHERE ($1::text IS NULL OR u.project_id = $1) AND ($2::text IS NULL OR u.user_id = $2)
  AND u.day BETWEEN $3 AND $4
GROUP BY u.day, u.operation, u.model
ORDER BY u.day DESC, u.operation, u.model
LIMIT $5
