-- name: tables
-- The tables of a schema with their columns, those that are generated left out, and their primary keys. A type that has
-- no hash function of its own is hashed in its binary form.
SELECT c.relname AS name,
       array_agg(a.attname::text ORDER BY a.attnum) AS columns,
       array_agg(CASE WHEN t.typname IN ('halfvec', 'sparsevec', 'vector') THEN (SELECT proname::text FROM pg_proc WHERE oid = t.typsend) END
                 ORDER BY a.attnum) AS senders,
       (SELECT array_agg(k.attname::text ORDER BY array_position(i.indkey::int2[], k.attnum))
        FROM pg_index AS i JOIN pg_attribute AS k ON k.attrelid = c.oid AND k.attnum = ANY (i.indkey)
        WHERE i.indrelid = c.oid AND i.indisprimary) AS key,
       (SELECT array_agg(format_type(k.atttypid, k.atttypmod) ORDER BY array_position(i.indkey::int2[], k.attnum))
        FROM pg_index AS i JOIN pg_attribute AS k ON k.attrelid = c.oid AND k.attnum = ANY (i.indkey)
        WHERE i.indrelid = c.oid AND i.indisprimary) AS key_types
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
JOIN pg_type AS t ON t.oid = a.atttypid
WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p') AND c.relname NOT LIKE 'moving\_%'
GROUP BY c.oid, c.relname
ORDER BY c.relname

-- name: extension_path
-- The search_path of a schema and that of pgvector.
SELECT set_config('search_path', concat_ws(', ', $1::text, quote_ident(n.nspname)), false)
FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'vector'

-- name: sequences
-- The sequences of a schema and where they are; those that were never used have no row.
SELECT sequencename AS name, last_value FROM pg_sequences WHERE schemaname = $1 AND last_value IS NOT NULL
