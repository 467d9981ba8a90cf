-- Tables that name users, with the rest of their primary keys.
SELECT c.relname AS name,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, n)
             JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
             WHERE a.attname NOT IN ('project_id', 'user_id') ORDER BY k.n) AS keys
FROM pg_class AS c
JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.relnamespace = current_schema()::regnamespace AND c.relname LIKE 'memory\_%'
  AND 2 = (SELECT count(*) FROM pg_attribute AS a
           WHERE a.attrelid = c.oid AND a.attname IN ('project_id', 'user_id')
             AND NOT a.attisdropped)
ORDER BY c.relname
