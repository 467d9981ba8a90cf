SELECT u.day, u.operation, u.model, sum(u.calls)::bigint AS calls,
       sum(u.input_tokens)::bigint AS input_tokens, sum(u.output_tokens)::bigint AS output_tokens,
       sum(u.cost_usd) AS cost_usd, sum(u.blocks)::bigint AS blocks
FROM memory_usage AS u
WHERE ($1::text IS NULL OR u.project_id = $1) AND ($2::text IS NULL OR u.user_id = $2)
  AND u.day BETWEEN $3 AND $4
GROUP BY u.day, u.operation, u.model
ORDER BY u.day DESC, u.operation, u.model
LIMIT $5
