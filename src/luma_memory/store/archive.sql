-- name: import_rows
-- Insert exported rows of one table; rows that already exist are skipped.
SELECT import_memory_rows($1, $2, $3, $4) AS stored

-- name: vector_dimension
-- The dimension of the user's vectors of a model; no row without any.
SELECT vector_dims(embedding) AS dimension
FROM memory_passages
WHERE project_id = $1 AND user_id = $2 AND embedding_model = $3 AND embedding IS NOT NULL
LIMIT 1

-- name: archive_tables
-- Tables that name users, with the rest of their primary keys.
SELECT c.relname AS name,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, n)
             JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
             WHERE a.attname NOT IN ('project_id', 'user_id') ORDER BY k.n) AS keys
FROM pg_class AS c
JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relname LIKE 'memory\_%'
  AND 2 = (SELECT count(*) FROM pg_attribute AS a
           WHERE a.attrelid = c.oid AND a.attname IN ('project_id', 'user_id')
             AND NOT a.attisdropped)
ORDER BY c.relname

-- name: archive_page
-- One page of a user's rows of a table, as they can be stored again; $4 is the last key of the page before.
-- The placeholders are replaced by names from the catalog.
SELECT (to_jsonb(t) - 'project_id' - 'user_id')::text AS data, jsonb_build_object(/*key*/) AS key
FROM /*table*/ AS t
WHERE t.project_id = $1 AND t.user_id = $2 /*after*/
/*order*/
LIMIT $3
