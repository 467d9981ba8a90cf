-- Luma Memory: schema of the asynchronous memory service, as one file.
-- Paste it whole into a SQL editor, or run `luma-memory migrate`. Running it again changes nothing.
-- Needs PostgreSQL 16 or newer and the extension pgvector 0.8 or newer.

BEGIN;
-- Two migrators of one schema do the work once; those of several schemas, one for each partition, work at once.
-- Earlier versions take the first lock alone, and not shared.
SELECT pg_advisory_xact_lock_shared(4867010125002);
SELECT pg_advisory_xact_lock(486701012, hashtext(current_schema()));
-- Give way to running statements instead of queueing all other statements behind this one.
SET LOCAL lock_timeout = '2s';
SET LOCAL client_min_messages = warning;

DO $server$ BEGIN
    -- Checked first, or an older server would fail on missing features.
    IF current_setting('server_version_num')::integer < 160000 THEN
        RAISE EXCEPTION 'PostgreSQL 16 or newer is needed; this server is PostgreSQL %.',
            current_setting('server_version');
    END IF;
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'The database must be in UTF8; this one is in %. Create another with CREATE DATABASE name ENCODING ''UTF8'' TEMPLATE template0.',
            current_setting('server_encoding');
    END IF;
    IF current_schema() IS NULL THEN
        RAISE EXCEPTION 'No schema of the search_path % exists. Create the schema, or correct the search_path.',
            current_setting('search_path');
    END IF;
END $server$;
SELECT pg_advisory_xact_lock(486701013, 0)
WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector');
DO $extension$ BEGIN
    -- Citus wants the owner of an extension for IF NOT EXISTS alone.
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') THEN
        CREATE EXTENSION IF NOT EXISTS vector;
    END IF;
END $extension$;
-- Platforms install extensions in schemas of their own, which a role's search_path may lack.
SELECT set_config('search_path', concat_ws(', ', current_setting('search_path'), quote_ident(n.nspname)), true)
FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'vector' AND n.nspname <> ALL (current_schemas(true));
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
