-- name: move
-- Returns when the schema is on the other node; writes wait at the end.
SELECT citus_schema_move($1::text::regnamespace, $2::text, $3::integer)
