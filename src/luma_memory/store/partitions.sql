-- name: list_partitions
-- The directory, in order; empty with one partition.
SELECT number, schema_name AS schema, dsn, state FROM memory_partitions ORDER BY number

-- name: lock_directory
-- One command at a time plans partitions, or creates a schema; released at the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('memory_partitions', 0))

-- name: add_partitions
-- The home partition serves from the start; the others are created one after the other.
INSERT INTO memory_partitions (number, schema_name, state)
SELECT 0, current_schema(), 'serving'
UNION ALL
SELECT n, name, 'creating' FROM unnest($1::text[]) WITH ORDINALITY AS s (name, n)

-- name: foreign_schemas
-- Those of the names that are schemas already.
SELECT nspname AS name FROM pg_namespace WHERE nspname = ANY ($1) ORDER BY nspname

-- name: set_prepared
-- The partition has its schema.
UPDATE memory_partitions SET state = 'prepared' WHERE number = $1 AND state = 'creating'

-- name: has_schema
-- Asked first: even a schema that exists is not created again by a role that may create none.
SELECT to_regnamespace($1) IS NOT NULL AS found

-- name: create_schema
-- The mark becomes the quoted name.
CREATE SCHEMA IF NOT EXISTS /*schema*/

-- name: partition_facts
-- Rows as of the last analysis, bytes with indexes.
SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint AS rows,
       coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint AS bytes
FROM pg_class AS c
WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind = 'r'
  AND c.relname LIKE 'memory\_%'

-- name: oldest_job
-- Age of the job that has waited longest.
SELECT oldest_pending_seconds AS seconds FROM get_memory_job_stats()
