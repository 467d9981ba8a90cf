-- One row a key, in order, also for scopes that took nothing.
SELECT coalesce(sum(u.calls), 0)::bigint AS calls,
       coalesce(sum(u.input_tokens), 0)::bigint AS input_tokens,
       coalesce(sum(u.output_tokens), 0)::bigint AS output_tokens,
       coalesce(sum(u.cost_usd), 0) AS cost_usd, coalesce(sum(u.blocks), 0)::bigint AS blocks
FROM unnest($1::text[], $2::text[], $3::date[]) WITH ORDINALITY AS k (project_id, user_id, day, n)
LEFT JOIN memory_usage AS u ON u.project_id = k.project_id AND u.user_id = k.user_id
    AND u.day = k.day
    -- A change of models is the operator's doing, not the user's.
    AND u.operation <> 'reembedding'
GROUP BY k.n ORDER BY k.n
