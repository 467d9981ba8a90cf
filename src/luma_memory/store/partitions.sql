-- name: list_partitions
-- The directory, in order; empty with one partition. A pause whose command is gone is over.
SELECT number, schema_name AS schema, dsn,
       CASE WHEN state = 'paused' AND paused_until < now() THEN 'serving' ELSE state END AS state
FROM memory_partitions ORDER BY number

-- name: lock_directory
-- One command at a time plans partitions, or creates a schema; released at the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('memory_partitions', 0))

-- name: add_partitions
-- The home partition serves from the start; the others are created one after the other.
INSERT INTO memory_partitions (number, schema_name, dsn, state)
SELECT 0, current_schema(), NULL, 'serving'
UNION ALL
SELECT n, name, dsn, 'creating' FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS s (name, dsn, n)

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

-- name: create_extension
-- pgvector, in the schema that databases have by default.
CREATE EXTENSION IF NOT EXISTS vector SCHEMA public

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

-- name: count_listed
-- Users who are at this partition and will be moved.
SELECT count(*) AS users FROM memory_partition_users

-- name: begin_ids
-- Ids of jobs and deliveries from $1 on.
SELECT begin_memory_ids($1)

-- name: restrict
-- Partition $1 of $2 holds only its own users.
SELECT restrict_memory_partition($1, $2)

-- name: share_secret
-- Receipts are made with the home partition's secret, wherever the user is.
UPDATE memory_secrets SET value = $1 WHERE name = 'receipts' AND value <> $1

-- name: hold_users
-- No user is created until the end of the transaction.
LOCK TABLE memory_users IN SHARE ROW EXCLUSIVE MODE

-- name: has_users
-- Whether anything would be looked for elsewhere.
SELECT EXISTS (SELECT FROM memory_users) OR EXISTS (SELECT FROM memory_blocks) AS found

-- name: serve_all
-- Users are spread over all partitions.
UPDATE memory_partitions SET state = 'serving' WHERE state = 'prepared'

-- name: set_state
-- Pause or continue one partition.
UPDATE memory_partitions SET state = $2, paused_until = until.at
FROM (SELECT clock_timestamp() + make_interval(secs => $3) AS at OFFSET 0) AS until
WHERE number = $1 AND state IN ('serving', 'paused')

-- name: users_here
-- In the order of the users.
SELECT is_here, is_free FROM memory_users_here($1, $2)

-- name: announce
-- Processes read the directory again.
SELECT pg_notify('memory_partitions', '')

-- name: work_of_partition
-- Whether a partition has jobs that may run, jobs that run, and webhooks; the marks are its number and its
-- schema. Looked at from any partition of the server, for many of them in one statement.
SELECT /*number*/ AS number,
       (EXISTS (SELECT FROM /*schema*/.memory_jobs WHERE status = 'pending' AND fair_at < 'infinity')
        OR EXISTS (SELECT FROM /*schema*/.memory_jobs
                   WHERE status = 'pending' AND fair_at = 'infinity' AND run_at <= now())) AS is_due,
       EXISTS (SELECT FROM /*schema*/.memory_jobs WHERE status = 'processing') AS is_busy,
       EXISTS (SELECT FROM /*schema*/.memory_webhooks) AS has_webhooks
