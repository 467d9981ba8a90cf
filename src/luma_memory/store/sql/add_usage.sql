-- In the order of the key, so that two workers do not wait for each other in a circle.
INSERT INTO memory_usage AS u (day, project_id, user_id, operation, model, calls, input_tokens,
    output_tokens, cost_usd, blocks)
SELECT i.* FROM unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
    $7::bigint[], $8::bigint[], $9::numeric[], $10::bigint[])
    AS i (day, project_id, user_id, operation, model, calls, input_tokens, output_tokens, cost_usd, blocks)
ORDER BY i.project_id, i.user_id, i.day, i.operation, i.model
ON CONFLICT (project_id, user_id, day, operation, model) DO UPDATE
SET calls = u.calls + excluded.calls, input_tokens = u.input_tokens + excluded.input_tokens,
    output_tokens = u.output_tokens + excluded.output_tokens,
    cost_usd = u.cost_usd + excluded.cost_usd, blocks = u.blocks + excluded.blocks
