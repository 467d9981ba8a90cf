-- Luma Memory: schema of the asynchronous memory service, as one file.
-- Paste it whole into a SQL editor, or run `luma-memory migrate`. Running it again changes nothing.
-- Needs PostgreSQL 16 or newer and the extension pgvector 0.8 or newer.

BEGIN;
-- Every version of this software takes the same lock, so that two migrators do the work once.
SELECT pg_advisory_xact_lock(4867010125002);
-- Give way to running statements instead of queueing everybody behind us.
SET LOCAL lock_timeout = '2s';
SET LOCAL client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS memory_migrations (
    version text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
DO $check$ BEGIN
    IF (SELECT string_to_array(regexp_replace(extversion, '[^0-9.]', '', 'g'), '.')::int[]
        FROM pg_extension WHERE extname = 'vector') < ARRAY[0, 8] THEN
        RAISE EXCEPTION 'pgvector is too old: 0.8 or newer is needed. Run ALTER EXTENSION vector UPDATE.';
    END IF;
END $check$;
