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

DO $migration_0001$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0001_async_memory') THEN
-- The asynchronous memory service: tables, indexes, row-level security.
--
-- A plpgsql block that the runner executes once per database. A fresh database and one that already
-- holds a plain memory_blocks (id, user_id, content, created_at ...) take the same road: the table
-- is created in its oldest form if it is missing, brought to our types, then grown column by column.
-- Adding a column with a constant default touches no row.

DECLARE
    v_name text;
    v_table text;
    v_type text;
    v_wanted text;
BEGIN

-- What an older installation may have brought along ----------------------------------------------

CREATE TABLE IF NOT EXISTS memory_blocks (
    id uuid NOT NULL,
    user_id text NOT NULL,
    content text NOT NULL,
    created_at timestamptz NOT NULL
);

FOR v_name IN
    SELECT t.name FROM unnest(ARRAY['memory_users', 'memory_passages', 'memory_block_revisions',
        'memory_relations', 'memory_summaries', 'memory_jobs', 'memory_rate_limits',
        'memory_workers', 'memory_usage', 'memory_api_keys']) AS t (name)
    -- A partition may see the tables of another one; elsewhere, tables in any schema on the path are these.
    WHERE to_regclass(CASE WHEN current_setting('luma_memory.partition', true) = current_schema()
                           THEN quote_ident(current_schema()) || '.' || t.name ELSE t.name END) IS NOT NULL
LOOP
    RAISE EXCEPTION 'The table % exists already and was not made by this migration. Rename it, then run the migration again.', v_name;
END LOOP;

FOREACH v_name IN ARRAY ARRAY['id', 'user_id', 'content', 'created_at'] LOOP
    SELECT format_type(a.atttypid, NULL) INTO v_type FROM pg_attribute AS a
    WHERE a.attrelid = 'memory_blocks'::regclass AND a.attname = v_name AND NOT a.attisdropped;
    IF v_type IS NULL THEN
        RAISE EXCEPTION 'memory_blocks has no column %. Rename the table, then run the migration again.', v_name;
    ELSIF v_name = 'id' AND v_type NOT IN ('uuid', 'text', 'character varying') THEN
        RAISE EXCEPTION 'memory_blocks.id is of type %, not uuid. Rename the table, then run the migration again.', v_type;
    END IF;
END LOOP;

IF EXISTS (SELECT FROM memory_blocks WHERE user_id IS NULL) THEN
    RAISE EXCEPTION 'memory_blocks holds rows without a user_id. Give each an owner, then run the migration again.';
END IF;

-- Policies and foreign keys of the old table name columns whose type changes below; ours follow.
FOR v_name IN
    SELECT policyname FROM pg_policies
    WHERE schemaname = current_schema() AND tablename = 'memory_blocks'
LOOP
    RAISE WARNING 'Replacing the policy % on memory_blocks.', v_name;
    EXECUTE format('DROP POLICY %I ON memory_blocks', v_name);
END LOOP;
-- Foreign keys first: they hang on the keys they point to.
FOR v_table, v_name IN
    SELECT c.conrelid::regclass::text, c.conname FROM pg_constraint AS c
    WHERE (c.conrelid = 'memory_blocks'::regclass AND c.contype IN ('p', 'u', 'f', 'c', 'x'))
       OR (c.confrelid = 'memory_blocks'::regclass AND c.contype = 'f')
    ORDER BY c.contype <> 'f', c.conname
LOOP
    RAISE WARNING 'Replacing the constraint % on %.', v_name, v_table;
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', v_table, v_name);
END LOOP;

FOR v_name, v_type, v_wanted IN
    SELECT a.attname, format_type(a.atttypid, NULL), w.wanted
    FROM pg_attribute AS a
    JOIN (VALUES ('id', 'uuid'), ('user_id', 'text'), ('content', 'text'),
                 ('created_at', 'timestamp with time zone'),
                 ('updated_at', 'timestamp with time zone'), ('metadata', 'jsonb'),
                 ('title', 'text'), ('summary', 'text')) AS w (name, wanted)
      ON w.name = a.attname
    WHERE a.attrelid = 'memory_blocks'::regclass AND NOT a.attisdropped
      AND format_type(a.atttypid, NULL) <> w.wanted
LOOP
    EXECUTE format('ALTER TABLE memory_blocks ALTER COLUMN %I DROP DEFAULT', v_name);
    EXECUTE format('ALTER TABLE memory_blocks ALTER COLUMN %I TYPE %s USING %s',
        v_name, v_wanted,
        CASE WHEN v_type = 'timestamp without time zone' THEN format('%I AT TIME ZONE ''UTC''', v_name)
             WHEN v_wanted = 'uuid' THEN format('%I::text::uuid', v_name)
             ELSE format('%I::%s', v_name, v_wanted) END);
END LOOP;

-- A column of ours whose name the old table used for something else is kept under another name.
FOR v_name, v_type, v_wanted IN
    SELECT a.attname, format_type(a.atttypid, NULL), w.wanted
    FROM pg_attribute AS a
    JOIN (VALUES ('project_id', 'text'), ('agent_id', 'text'), ('session_id', 'text'),
                 ('speaker', 'text'), ('source', 'text'), ('external_id', 'text'),
                 ('occurred_at', 'timestamp with time zone'),
                 ('expires_at', 'timestamp with time zone'), ('idempotency_key', 'text'),
                 ('content_hash', 'bytea'), ('request_hash', 'bytea'), ('tags', 'text[]'),
                 ('entities', 'jsonb'), ('importance', 'real'), ('language', 'text'),
                 ('status', 'text'), ('enrichment', 'text'), ('error', 'text'),
                 ('superseded_by', 'uuid'), ('superseded_at', 'timestamp with time zone'),
                 ('revision', 'integer'), ('job_id', 'bigint')) AS w (name, wanted)
      ON w.name = a.attname
    WHERE a.attrelid = 'memory_blocks'::regclass AND NOT a.attisdropped
      AND (format_type(a.atttypid, NULL) <> w.wanted
           -- Of our type perhaps, but never of our meaning.
           OR a.attname IN ('status', 'enrichment', 'importance'))
LOOP
    RAISE WARNING 'Keeping the old column memory_blocks.% (%) as %.', v_name, v_type, 'legacy_' || v_name;
    EXECUTE format('ALTER TABLE memory_blocks RENAME COLUMN %I TO %I', v_name, 'legacy_' || v_name);
END LOOP;

-- What the old table demanded beyond the four columns above would refuse our rows.
FOR v_name IN
    SELECT a.attname FROM pg_attribute AS a
    WHERE a.attrelid = 'memory_blocks'::regclass AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attnotnull AND a.attidentity = ''
      AND a.attname NOT IN ('id', 'user_id', 'content', 'created_at')
LOOP
    EXECUTE format('ALTER TABLE memory_blocks ALTER COLUMN %I DROP NOT NULL', v_name);
END LOOP;

UPDATE memory_blocks SET content = '' WHERE content IS NULL;
UPDATE memory_blocks SET created_at = now() WHERE created_at IS NULL;

-- Blocks -----------------------------------------------------------------------------------------

ALTER TABLE memory_blocks
    -- The previous, synchronous service inserts (user_id, content) and must go on working.
    ALTER COLUMN id SET DEFAULT gen_random_uuid(),
    ALTER COLUMN created_at SET DEFAULT now(),
    ALTER COLUMN id SET NOT NULL,
    ALTER COLUMN content SET NOT NULL,
    ALTER COLUMN created_at SET NOT NULL,
    ADD COLUMN IF NOT EXISTS project_id text NOT NULL DEFAULT 'default',
    ADD COLUMN IF NOT EXISTS agent_id text,
    ADD COLUMN IF NOT EXISTS session_id text,
    ADD COLUMN IF NOT EXISTS speaker text,
    ADD COLUMN IF NOT EXISTS source text,
    ADD COLUMN IF NOT EXISTS external_id text,
    ADD COLUMN IF NOT EXISTS metadata jsonb NOT NULL DEFAULT '{}',
    -- NULL only in rows of the older service: created_at stands for it.
    ADD COLUMN IF NOT EXISTS occurred_at timestamptz,
    ADD COLUMN IF NOT EXISTS expires_at timestamptz,
    ADD COLUMN IF NOT EXISTS idempotency_key text,
    -- SHA-256 of the content, and of the whole accepted request.
    ADD COLUMN IF NOT EXISTS content_hash bytea,
    ADD COLUMN IF NOT EXISTS request_hash bytea,
    ADD COLUMN IF NOT EXISTS title text,
    ADD COLUMN IF NOT EXISTS summary text,
    ADD COLUMN IF NOT EXISTS tags text[] NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS entities jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN IF NOT EXISTS importance real,
    ADD COLUMN IF NOT EXISTS language text,
    ADD COLUMN IF NOT EXISTS status text NOT NULL DEFAULT 'pending_enrichment',
    ADD COLUMN IF NOT EXISTS enrichment text NOT NULL DEFAULT 'none',
    ADD COLUMN IF NOT EXISTS error text,
    ADD COLUMN IF NOT EXISTS superseded_by uuid,
    ADD COLUMN IF NOT EXISTS superseded_at timestamptz,
    ADD COLUMN IF NOT EXISTS revision integer NOT NULL DEFAULT 1,
    -- The job the block was accepted with: a repeated request gets the first answer again.
    ADD COLUMN IF NOT EXISTS job_id bigint,
    ADD COLUMN IF NOT EXISTS updated_at timestamptz NOT NULL DEFAULT now();

-- A column that was there before has the old table's default, and may hold no value.
FOR v_name, v_wanted IN
    SELECT w.name, w.wanted
    FROM (VALUES ('agent_id', 'NULL'), ('session_id', 'NULL'), ('speaker', 'NULL'),
                 ('source', 'NULL'), ('external_id', 'NULL'), ('occurred_at', 'NULL'),
                 ('expires_at', 'NULL'), ('idempotency_key', 'NULL'), ('content_hash', 'NULL'),
                 ('request_hash', 'NULL'), ('title', 'NULL'), ('summary', 'NULL'),
                 ('language', 'NULL'), ('error', 'NULL'), ('superseded_by', 'NULL'),
                 ('superseded_at', 'NULL'), ('job_id', 'NULL'), ('project_id', '''default'''),
                 ('metadata', '''{}'''), ('tags', '''{}'''), ('entities', '''[]'''),
                 ('revision', '1'), ('updated_at', 'now()')) AS w (name, wanted)
    JOIN pg_attribute AS a ON a.attrelid = 'memory_blocks'::regclass AND a.attname = w.name
    WHERE NOT a.attnotnull
LOOP
    IF v_wanted = 'NULL' THEN
        EXECUTE format('ALTER TABLE memory_blocks ALTER COLUMN %I DROP DEFAULT', v_name);
        CONTINUE;
    END IF;
    EXECUTE format('UPDATE memory_blocks SET %I = %s WHERE %I IS NULL', v_name,
        CASE v_name WHEN 'updated_at' THEN 'created_at' ELSE v_wanted END, v_name);
    EXECUTE format('ALTER TABLE memory_blocks ALTER COLUMN %I SET DEFAULT %s, ALTER COLUMN %I SET NOT NULL',
        v_name, v_wanted, v_name);
END LOOP;

ALTER TABLE memory_blocks
    ADD CONSTRAINT memory_blocks_pkey PRIMARY KEY (project_id, user_id, id),
    ADD CONSTRAINT memory_blocks_status_check
        CHECK (status IN ('pending_enrichment', 'active', 'failed')),
    ADD CONSTRAINT memory_blocks_enrichment_check
        CHECK (enrichment IN ('none', 'model', 'local', 'fallback')),
    ADD CONSTRAINT memory_blocks_importance_check CHECK (importance BETWEEN 0 AND 1);

CREATE UNIQUE INDEX memory_blocks_idempotency_key ON memory_blocks (project_id, user_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX memory_blocks_external_id ON memory_blocks (project_id, user_id, external_id)
    WHERE external_id IS NOT NULL;

-- Users ------------------------------------------------------------------------------------------

CREATE TABLE memory_users (
    project_id text NOT NULL DEFAULT 'default',
    user_id text NOT NULL,
    -- Rises with every visible change of the scope: what a cached answer is checked against.
    version bigint NOT NULL DEFAULT 0,
    time_zone text NOT NULL DEFAULT 'UTC',
    last_ingest_at timestamptz,
    -- Virtual time of the user's last job: where their next one queues.
    fair_at timestamptz NOT NULL DEFAULT '-infinity',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, user_id)
    -- Updated by every write of the scope, no indexed column with it: room for HOT updates.
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- Passages: what search scans --------------------------------------------------------------------

CREATE TABLE memory_passages (
    project_id text NOT NULL DEFAULT 'default',
    user_id text NOT NULL,
    block_id uuid NOT NULL,
    ordinal integer NOT NULL,
    -- Characters [start_at, stop_at) of the block's content.
    start_at integer NOT NULL,
    stop_at integer NOT NULL,
    session_id text,
    occurred_at timestamptz NOT NULL,
    expires_at timestamptz,
    -- NULL until a worker has embedded the block; found by its words before that.
    embedding_model text,
    -- No fixed dimension: models change under way, and vectors of different models never meet.
    embedding halfvec,
    lexemes sparsevec NOT NULL,
    PRIMARY KEY (project_id, user_id, block_id, ordinal)
);
-- Out-of-line storage would cost a look-up a row in a scan that reads every row of the scope.
ALTER TABLE memory_passages
    ALTER COLUMN embedding SET STORAGE PLAIN,
    ALTER COLUMN lexemes SET STORAGE MAIN;

-- History, relations, summaries ------------------------------------------------------------------

CREATE TABLE memory_block_revisions (
    project_id text NOT NULL DEFAULT 'default',
    user_id text NOT NULL,
    block_id uuid NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    revision integer NOT NULL,
    -- edit, enrichment or supersession
    reason text NOT NULL,
    changed_by text NOT NULL,
    before jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, user_id, block_id, id)
);

CREATE TABLE memory_relations (
    id uuid NOT NULL,
    project_id text NOT NULL DEFAULT 'default',
    user_id text NOT NULL,
    source_id uuid NOT NULL,
    target_id uuid NOT NULL,
    type text NOT NULL CHECK (type IN ('related', 'elaborates', 'supports', 'contradicts',
        'supersedes', 'duplicates', 'causes', 'follows')),
    confidence real NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    evidence text,
    model text NOT NULL,
    status text NOT NULL DEFAULT 'accepted' CHECK (status IN ('accepted', 'rejected')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, user_id, id),
    UNIQUE (project_id, user_id, source_id, target_id, type)
);
CREATE INDEX memory_relations_target ON memory_relations (project_id, user_id, target_id);

CREATE TABLE memory_summaries (
    id uuid NOT NULL,
    project_id text NOT NULL DEFAULT 'default',
    user_id text NOT NULL,
    -- A date in the user's own time zone.
    week_start date NOT NULL,
    text text NOT NULL,
    highlights jsonb NOT NULL DEFAULT '[]',
    block_ids uuid[] NOT NULL DEFAULT '{}',
    model text NOT NULL,
    stale boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, user_id, week_start)
);

-- Queue ------------------------------------------------------------------------------------------

CREATE TABLE memory_jobs (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    project_id text NOT NULL DEFAULT 'default',
    user_id text NOT NULL,
    -- No foreign key: a job whose block is gone is done.
    block_id uuid,
    job_type text NOT NULL
        CHECK (job_type IN ('enrich_and_embed', 'detect_relations', 'weekly_summary', 'reembed')),
    payload jsonb NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    -- Higher runs first.
    priority integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 3,
    run_at timestamptz NOT NULL DEFAULT now(),
    -- Place in the queue. 'infinity' while run_at lies ahead, so that a claim never reads past
    -- deferred jobs; the claim that finds run_at reached gives the job its place back.
    fair_at timestamptz NOT NULL DEFAULT now(),
    locked_by text,
    locked_until timestamptz,
    unique_key text,
    error_class text CHECK (error_class IN ('provider', 'provider_permanent', 'schema', 'timeout',
        'poison', 'internal')),
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
    -- Every job dies twice (claim, completion): vacuum early, or the claim walks over the dead.
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX memory_jobs_claim ON memory_jobs (priority DESC, fair_at, id)
    WHERE status = 'pending' AND fair_at < 'infinity';
CREATE INDEX memory_jobs_deferred ON memory_jobs (run_at)
    WHERE status = 'pending' AND fair_at = 'infinity';
CREATE INDEX memory_jobs_processing ON memory_jobs (locked_until) WHERE status = 'processing';
CREATE INDEX memory_jobs_failed ON memory_jobs (created_at) WHERE status = 'failed';
CREATE INDEX memory_jobs_open_block ON memory_jobs (block_id)
    WHERE status IN ('pending', 'processing');
CREATE UNIQUE INDEX memory_jobs_unique_key ON memory_jobs (project_id, user_id, unique_key)
    WHERE unique_key IS NOT NULL;

CREATE TABLE memory_workers (
    -- New at every process start.
    id text PRIMARY KEY,
    host text NOT NULL DEFAULT '',
    process_id integer,
    version text NOT NULL DEFAULT '',
    started_at timestamptz NOT NULL DEFAULT now(),
    last_seen timestamptz NOT NULL DEFAULT now(),
    running integer NOT NULL DEFAULT 0,
    -- Session advisory lock the worker holds while it lives; NULL behind a transaction pooler.
    lock_key bigint,
    -- Jobs this worker has finished: the totals are sums over workers, so no row is shared.
    completed bigint NOT NULL DEFAULT 0,
    stopped_at timestamptz
) WITH (fillfactor = 50);

CREATE TABLE memory_rate_limits (
    project_id text NOT NULL DEFAULT 'default',
    user_id text NOT NULL,
    operation text NOT NULL,
    window_start timestamptz NOT NULL,
    count integer NOT NULL DEFAULT 0,
    PRIMARY KEY (project_id, user_id, operation, window_start)
);

CREATE TABLE memory_usage (
    day date NOT NULL,
    project_id text NOT NULL DEFAULT 'default',
    user_id text NOT NULL,
    operation text NOT NULL,
    model text NOT NULL,
    calls bigint NOT NULL DEFAULT 0,
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    cost_usd numeric(14, 8) NOT NULL DEFAULT 0,
    PRIMARY KEY (project_id, user_id, day, operation, model)
);

CREATE TABLE memory_api_keys (
    prefix text PRIMARY KEY,
    key_hash bytea NOT NULL,
    project_id text NOT NULL DEFAULT 'default',
    user_id text,
    scopes text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at timestamptz
);

-- Row-level security -----------------------------------------------------------------------------
-- The service connects as the owner, whom policies do not bind. A hosted REST layer over the same
-- schema connects as somebody else: they see at most their own rows, and may write none.

EXECUTE $function$
CREATE OR REPLACE FUNCTION memory_token_subject() RETURNS text LANGUAGE sql STABLE AS
$body$ SELECT NULLIF(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub' $body$
$function$;

FOREACH v_name IN ARRAY ARRAY['memory_migrations', 'memory_users', 'memory_blocks',
    'memory_passages', 'memory_block_revisions', 'memory_relations', 'memory_summaries',
    'memory_jobs', 'memory_workers', 'memory_rate_limits', 'memory_usage', 'memory_api_keys']
LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', v_name);
END LOOP;
FOREACH v_name IN ARRAY ARRAY['memory_users', 'memory_blocks', 'memory_block_revisions',
    'memory_relations', 'memory_summaries']
LOOP
    -- Access tokens say who the user is, not which project: they open the default one only.
    EXECUTE format('CREATE POLICY own_rows ON %I FOR SELECT
        USING (project_id = ''default'' AND user_id = (SELECT memory_token_subject()))', v_name);
END LOOP;

-- Blocks of the older service --------------------------------------------------------------------

INSERT INTO memory_users (project_id, user_id, version, last_ingest_at)
SELECT project_id, user_id, 1, max(created_at) FROM memory_blocks GROUP BY project_id, user_id;

INSERT INTO memory_jobs (project_id, user_id, block_id, job_type, priority, fair_at)
SELECT project_id, user_id, id, 'enrich_and_embed', -10,
       now() + interval '100 ms' * row_number() OVER (PARTITION BY project_id, user_id ORDER BY created_at, id)
FROM memory_blocks;

END;

INSERT INTO memory_migrations (version) VALUES ('0001_async_memory');
END IF;
END $migration_0001$;

DO $migration_0002$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0002_providers') THEN
-- Providers that fail well: what is known of them is shared by all workers, what they could not make
-- is remembered, and the embedding model can change under way. Everything here is added; version
-- 0001's code works on beside it.

ALTER TABLE memory_blocks
    -- The revision that title, summary, tags and entities were made from, and what made them.
    ADD COLUMN IF NOT EXISTS enriched_revision integer,
    ADD COLUMN IF NOT EXISTS enrichment_model text,
    -- What is still to be made of an active block ('enrich', 'embed'), and from when on to try:
    -- 'infinity' is "when somebody asks", as for what a switch has left out.
    ADD COLUMN IF NOT EXISTS backfill_steps text[],
    ADD COLUMN IF NOT EXISTS backfill_at timestamptz;
CREATE INDEX IF NOT EXISTS memory_blocks_backfill ON memory_blocks (backfill_at)
    WHERE backfill_at IS NOT NULL;

-- Blocks that the calls were made for: what one block costs can be told.
ALTER TABLE memory_usage ADD COLUMN IF NOT EXISTS blocks bigint NOT NULL DEFAULT 0;

-- One row a provider, account and model: what one worker learns of it, all know.
CREATE TABLE IF NOT EXISTS memory_circuits (
    name text PRIMARY KEY,
    -- closed (call), limited (told to wait), away (fails), refused (key, money)
    state text NOT NULL DEFAULT 'closed' CHECK (state IN ('closed', 'limited', 'away', 'refused')),
    -- Failures of one kind in a row, and how often the circuit opened without a good call between.
    failures integer NOT NULL DEFAULT 0,
    failing text,
    openings integer NOT NULL DEFAULT 0,
    code text,
    reason text,
    blocked_until timestamptz,
    -- One caller at a time tries an open circuit whose time is over.
    probe_until timestamptz,
    changed_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Embedding models that vectors of this installation were made with. One that is not retired may
-- still have vectors in use.
CREATE TABLE IF NOT EXISTS memory_embedding_models (
    id text PRIMARY KEY,
    first_used_at timestamptz NOT NULL DEFAULT now(),
    -- Set when somebody asked for all vectors to be of this model.
    wanted_at timestamptz,
    retired_at timestamptz
);
INSERT INTO memory_embedding_models (id)
SELECT DISTINCT embedding_model FROM memory_passages WHERE embedding_model IS NOT NULL
ON CONFLICT DO NOTHING;

-- Which model a scope's vectors are of, once a change of models has reached it. Without a row: the
-- oldest model that is not retired.
CREATE TABLE IF NOT EXISTS memory_scope_models (
    project_id text NOT NULL,
    user_id text NOT NULL,
    model text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, user_id)
);

-- Vectors of the next model, beside those that search still uses. Not in memory_passages: a scan reads
-- every row of that, and two long vectors would not fit in one page.
CREATE TABLE IF NOT EXISTS memory_next_passages (
    project_id text NOT NULL,
    user_id text NOT NULL,
    block_id uuid NOT NULL,
    ordinal integer NOT NULL,
    -- Of the block as it was read: an edit makes the vector worthless.
    revision integer NOT NULL,
    model text NOT NULL,
    -- NULL where the model refuses the text for good.
    embedding halfvec,
    PRIMARY KEY (project_id, user_id, block_id, ordinal)
);

ALTER TABLE memory_circuits ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_embedding_models ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_scope_models ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_next_passages ENABLE ROW LEVEL SECURITY;

INSERT INTO memory_migrations (version) VALUES ('0002_providers');
END IF;
END $migration_0002$;

DO $migration_0003$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0003_recall') THEN
-- What recall ranks by beside words and vectors: who spoke, and what was said around it.

-- The speaker's name as two hashes (memory_speaker_key); NULL in rows that are older than this column,
-- until their session is looked at again.
ALTER TABLE memory_passages ADD COLUMN speaker_key bigint;

-- A session in its order: its turns are read together when their windows are embedded.
CREATE INDEX memory_blocks_session
    ON memory_blocks (project_id, user_id, session_id, (coalesce(occurred_at, created_at)), id)
    WHERE session_id IS NOT NULL;

-- Few blocks are superseded, and every search leaves them out.
CREATE INDEX memory_blocks_superseded ON memory_blocks (project_id, user_id, id)
    WHERE superseded_at IS NOT NULL;

-- Sessions that are already stored get their windows in the background, after everything else. Blocks
-- that wait for enrichment bring their sessions to attention themselves.
INSERT INTO memory_jobs (project_id, user_id, job_type, payload, priority, fair_at)
SELECT u.project_id, u.user_id, 'reembed', '{"sessions": "all"}', -20, now()
FROM memory_users AS u
WHERE EXISTS (SELECT FROM memory_blocks AS b
              WHERE b.project_id = u.project_id AND b.user_id = u.user_id
                AND b.session_id IS NOT NULL AND b.status = 'active');

INSERT INTO memory_migrations (version) VALUES ('0003_recall');
END IF;
END $migration_0003$;

DO $migration_0004$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0004_context_cache') THEN
-- What the context cache needs: the next expiry of a scope, and its own counts.

-- A block that expires changes what recall answers without any write. Few blocks expire, so few are
-- in here, and the next one of a scope is one step into the index.
CREATE INDEX memory_passages_expiry ON memory_passages (project_id, user_id, expires_at)
    WHERE expires_at IS NOT NULL;

-- Answers by hour, summed over all API processes.
CREATE TABLE memory_cache_hours (
    hour timestamptz PRIMARY KEY,
    hits bigint NOT NULL DEFAULT 0,
    misses bigint NOT NULL DEFAULT 0
);
ALTER TABLE memory_cache_hours ENABLE ROW LEVEL SECURITY;

INSERT INTO memory_migrations (version) VALUES ('0004_context_cache');
END IF;
END $migration_0004$;

DO $migration_0005$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0005_door') THEN
-- The door: keys with names, remembered answers, receipts of erasures, secrets that all processes
-- of an installation share.

BEGIN

ALTER TABLE memory_api_keys
    ADD COLUMN name text,
    ADD CONSTRAINT memory_api_keys_scopes_check
        CHECK (scopes <@ ARRAY['ingest', 'read', 'admin']);

-- Whose revision supersedes this one: asked whenever a block is deleted.
CREATE INDEX memory_blocks_superseded_by ON memory_blocks (project_id, user_id, superseded_by)
    WHERE superseded_by IS NOT NULL;

-- Answers of writes that came with an Idempotency-Key, other than accepted blocks: those carry
-- their key themselves. What is deleted leaves its key here, so that a late repetition of the
-- request that made it does not bring it back.
CREATE TABLE memory_idempotency (
    project_id text NOT NULL DEFAULT 'default',
    -- Whom the request was about; '' when it was about the project.
    user_id text NOT NULL,
    idempotency_key text NOT NULL,
    operation text NOT NULL,
    -- SHA-256 of everything the request said.
    request_hash bytea,
    block_id uuid,
    job_id bigint,
    -- The answer; NULL where the block's id and job are all of it.
    status integer,
    headers jsonb,
    body text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, user_id, idempotency_key)
);
CREATE INDEX memory_idempotency_created ON memory_idempotency (created_at);

-- What is left of an erased user: that it happened, when, and how much there was. The user's id is
-- not among it, only its digest with a secret of this installation.
CREATE TABLE memory_erasures (
    id uuid NOT NULL,
    project_id text NOT NULL DEFAULT 'default',
    user_digest bytea NOT NULL,
    key_digest bytea,
    counts jsonb NOT NULL,
    started_at timestamptz NOT NULL,
    erased_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, user_digest, id)
);
CREATE UNIQUE INDEX memory_erasures_key ON memory_erasures (project_id, user_digest, key_digest)
    WHERE key_digest IS NOT NULL;

CREATE TABLE memory_secrets (
    name text PRIMARY KEY,
    value bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- Two random UUIDs are 244 bits from the system's own source of randomness.
INSERT INTO memory_secrets (name, value)
SELECT s.name, sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
FROM (VALUES ('cursors'), ('receipts')) AS s (name);

ALTER TABLE memory_idempotency ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_erasures ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_secrets ENABLE ROW LEVEL SECURITY;

END;

INSERT INTO memory_migrations (version) VALUES ('0005_door');
END IF;
END $migration_0005$;

DO $migration_0006$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0006_steady_workers') THEN
-- Since when a worker has said its heartbeats without a gap. While the database stood still nobody
-- could end a job, so nobody's lease counts before its holder had time to come back.
ALTER TABLE memory_workers ADD COLUMN steady_since timestamptz NOT NULL DEFAULT '-infinity';

INSERT INTO memory_migrations (version) VALUES ('0006_steady_workers');
END IF;
END $migration_0006$;

DO $migration_0007$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0007_relevance') THEN
-- What a model's cosines of unrelated texts are like: measured once, so that "relevant" means the same
-- whatever the model.
ALTER TABLE memory_embedding_models
    ADD COLUMN background_mean double precision,
    ADD COLUMN background_deviation double precision CHECK (background_deviation > 0);

INSERT INTO memory_migrations (version) VALUES ('0007_relevance');
END IF;
END $migration_0007$;

DO $migration_0008$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0008_traces') THEN
-- The function takes one argument more, with a default: a call as before is still a call of it. Without
-- this there would be two functions, and such a call would meet the old one.
EXECUTE format('DROP FUNCTION IF EXISTS %I.ingest_memory_blocks(uuid[], text[], text[], text[], text[], text[], text[],
    text[], text[], jsonb[], timestamptz[], timestamptz[], text[], bytea[], bytea[], integer[],
    integer[], integer[], integer[], sparsevec[], integer, interval, text, interval)', current_schema());

INSERT INTO memory_migrations (version) VALUES ('0008_traces');
END IF;
END $migration_0008$;

DO $migration_0009$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0009_relations_and_summaries') THEN
-- Relations, supersession and weekly summaries. Everything here is added; the code of the version before
-- works on beside it.

ALTER TABLE memory_blocks
    -- When its relations were looked for last: what the limit of an hour is counted by, beside
    -- memory_rate_limits, so that neither alone can be lost.
    ADD COLUMN IF NOT EXISTS related_at timestamptz;
CREATE INDEX IF NOT EXISTS memory_blocks_related ON memory_blocks (project_id, user_id, related_at)
    WHERE related_at IS NOT NULL;

ALTER TABLE memory_relations
    -- Who accepted or rejected it, where that was not left to the one who found it.
    ADD COLUMN IF NOT EXISTS decided_by text;

ALTER TABLE memory_summaries
    -- The window it was made of. A user's later change of time zone moves the weeks to come, and not
    -- the ones that are told already.
    ADD COLUMN IF NOT EXISTS time_zone text NOT NULL DEFAULT 'UTC',
    ADD COLUMN IF NOT EXISTS starts_at timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN IF NOT EXISTS ends_at timestamptz NOT NULL DEFAULT '-infinity',
    -- What is new or over, beside the week before; NULL where that has no summary.
    ADD COLUMN IF NOT EXISTS comparison text;
CREATE INDEX IF NOT EXISTS memory_summaries_stale ON memory_summaries (ends_at) WHERE stale;

INSERT INTO memory_migrations (version) VALUES ('0009_relations_and_summaries');
END IF;
END $migration_0009$;

DO $migration_0010$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0010_repeated_blocks') THEN
-- Blocks that are sent again are recognised at the door.

ALTER TABLE memory_blocks
    -- How often it was sent again, after the first time.
    ADD COLUMN IF NOT EXISTS repeat_count integer NOT NULL DEFAULT 0;
-- Blocks with a name of the client's own are told apart by that.
CREATE INDEX IF NOT EXISTS memory_blocks_content ON memory_blocks (project_id, user_id, content_hash)
    WHERE external_id IS NULL;
ALTER TABLE memory_idempotency
    -- Of the block that the request said again, as it stood then; NULL where the request made it.
    ADD COLUMN IF NOT EXISTS block_status text;
-- One argument more, with a default: a call as before is still a call of it, and returns what it did first.
EXECUTE format('DROP FUNCTION IF EXISTS %I.ingest_memory_blocks(uuid[], text[], text[], text[], text[], text[], text[],
    text[], text[], jsonb[], timestamptz[], timestamptz[], text[], bytea[], bytea[], integer[],
    integer[], integer[], integer[], sparsevec[], integer, interval, text, interval, text[])', current_schema());

INSERT INTO memory_migrations (version) VALUES ('0010_repeated_blocks');
END IF;
END $migration_0010$;

DO $migration_0011$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0011_steady_writes') THEN
-- Claims and write-backs touch fewer rows.

-- Jobs that may have ended their worker run alone, and every claim asks whether one does.
CREATE INDEX IF NOT EXISTS memory_jobs_alone ON memory_jobs (locked_by)
    WHERE status = 'processing' AND error_class = 'poison' AND attempts = max_attempts;
-- Each block is written twice, at the door and by its worker. Where there is room beside it in its page
-- (for half of the blocks, measured on chat turns) the second writing enters none of the table's
-- indexes. Pages that are full stay as they are.
ALTER TABLE memory_blocks SET (fillfactor = 50);

INSERT INTO memory_migrations (version) VALUES ('0011_steady_writes');
END IF;
END $migration_0011$;

DO $migration_0012$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0012_repeats_without_statistics') THEN
-- A block that is sent again is found without reading its user's other blocks.

-- Until the table is analyzed for the first time, an index that begins with the scope costs the
-- planner as much as the primary key, which does too, and with that all blocks of the user were read.
-- Here the scope stands as a number, of which the primary key knows nothing.
-- memory_blocks_content, which nothing uses any more, goes with a later version: to drop an index means
-- to wait for everybody who reads the table, after its writers wait for this one.
CREATE INDEX IF NOT EXISTS memory_blocks_said ON memory_blocks
    (content_hash, hashtextextended(user_id, hashtextextended(project_id, 0)))
    WHERE external_id IS NULL;

INSERT INTO memory_migrations (version) VALUES ('0012_repeats_without_statistics');
END IF;
END $migration_0012$;

DO $migration_0013$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0013_refused_blocks') THEN
-- Blocks that a provider refused for good before this version have no backfill pending: with the key
-- or the account repaired, `luma-memory backfill` could not find them. It makes what they lack now.
UPDATE memory_blocks AS b SET backfill_steps = s.steps, backfill_at = 'infinity'
FROM (SELECT project_id, user_id, id, array_remove(ARRAY[
          CASE WHEN enrichment IN ('none', 'fallback') THEN 'enrich' END,
          CASE WHEN EXISTS (SELECT FROM memory_passages AS p
                            WHERE p.project_id = m.project_id AND p.user_id = m.user_id
                              AND p.block_id = m.id AND p.ordinal >= 0 AND p.embedding IS NULL)
               THEN 'embed' END], NULL) AS steps
      FROM memory_blocks AS m
      WHERE status = 'active' AND error IS NOT NULL AND backfill_at IS NULL) AS s
WHERE b.project_id = s.project_id AND b.user_id = s.user_id AND b.id = s.id AND s.steps <> '{}';

INSERT INTO memory_migrations (version) VALUES ('0013_refused_blocks');
END IF;
END $migration_0013$;

DO $migration_0014$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0014_provider_faults') THEN
-- Health names providers that are away, and since when.
ALTER TABLE memory_circuits
    -- When the first of the failures in a row was noted; NULL while calls succeed.
    ADD COLUMN IF NOT EXISTS failing_since timestamptz;

INSERT INTO memory_migrations (version) VALUES ('0014_provider_faults');
END IF;
END $migration_0014$;

DO $migration_0015$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0015_block_input') THEN
-- What a client may say of a block is listed once.

-- The columns that accepting a block fills; the others of memory_blocks have defaults. A migration that
-- adds such a field adds its column to the table and, at the end, to this view. It has to accept NULL:
-- the version before does not know it.
CREATE OR REPLACE VIEW memory_block_input WITH (security_invoker = true) AS
SELECT id, project_id, user_id, content, agent_id, session_id, speaker, source, external_id, metadata,
       occurred_at, expires_at, idempotency_key, content_hash, request_hash, job_id, created_at, updated_at
FROM memory_blocks;

INSERT INTO memory_migrations (version) VALUES ('0015_block_input');
END IF;
END $migration_0015$;

DO $migration_0016$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0016_scope_changes') THEN
-- What changed in a scope since a version: readers that keep a copy of it bring that up to date.

ALTER TABLE memory_users
    -- The version before `version`; entries of the log below chain by it.
    ADD COLUMN IF NOT EXISTS previous bigint NOT NULL DEFAULT 0;

-- One row for each rise of a version, kept for some minutes. Unlogged: a crash empties it, and a reader
-- whose chain of entries is broken reads the scope again.
CREATE UNLOGGED TABLE IF NOT EXISTS memory_changes (
    project_id text NOT NULL,
    user_id text NOT NULL,
    version bigint NOT NULL,
    previous bigint NOT NULL,
    -- Blocks whose passages, windows, expiry or supersession may have changed; NULL: all of the scope.
    block_ids uuid[],
    PRIMARY KEY (project_id, user_id, version)
);
ALTER TABLE memory_changes ENABLE ROW LEVEL SECURITY;

INSERT INTO memory_migrations (version) VALUES ('0016_scope_changes');
END IF;
END $migration_0016$;

DO $migration_0017$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0017_sender_offset') THEN
-- Blocks keep the offset from UTC that their time was sent with: "today" is the sender's day.

-- NULL: sent in UTC, without an offset, or by the version before.
ALTER TABLE memory_blocks ADD COLUMN IF NOT EXISTS utc_offset_minutes smallint;
CREATE OR REPLACE VIEW memory_block_input WITH (security_invoker = true) AS
SELECT id, project_id, user_id, content, agent_id, session_id, speaker, source, external_id, metadata,
       occurred_at, expires_at, idempotency_key, content_hash, request_hash, job_id, created_at, updated_at,
       utc_offset_minutes
FROM memory_blocks;

INSERT INTO memory_migrations (version) VALUES ('0017_sender_offset');
END IF;
END $migration_0017$;

DO $migration_0018$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0018_operable_queue') THEN
-- The queue can be paused, tells what each attempt ended with, and counts as processing what runs.
ALTER TABLE memory_jobs
    -- The last ten failed attempts, oldest first: attempt, at, worker, error_class, message.
    ADD COLUMN IF NOT EXISTS attempt_errors jsonb NOT NULL DEFAULT '[]';
ALTER TABLE memory_workers
    -- Jobs it runs at once. NULL for workers of earlier versions.
    ADD COLUMN IF NOT EXISTS slots integer;
-- Job types that no worker claims; 'all' is the whole queue. Almost always empty, and read once a claim.
CREATE TABLE IF NOT EXISTS memory_job_pauses (
    job_type text PRIMARY KEY
        CHECK (job_type IN ('all', 'enrich_and_embed', 'detect_relations', 'weekly_summary', 'reembed')),
    paused_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE memory_job_pauses ENABLE ROW LEVEL SECURITY;

INSERT INTO memory_migrations (version) VALUES ('0018_operable_queue');
END IF;
END $migration_0018$;

DO $migration_0019$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0019_items') THEN
-- Items: blocks that are written and read by a name, each with a JSON value.

DECLARE
    v_name text;
BEGIN

-- A table that was here before the service may use these names for something else.
FOR v_name IN
    SELECT a.attname FROM pg_attribute AS a
    WHERE a.attrelid = 'memory_blocks'::regclass AND NOT a.attisdropped
      AND a.attname IN ('namespace', 'key', 'value', 'name_id', 'position', 'ttl_seconds', 'refresh_on_read')
LOOP
    RAISE WARNING 'Keeping the old column memory_blocks.% as %.', v_name, 'legacy_' || v_name;
    EXECUTE format('ALTER TABLE memory_blocks RENAME COLUMN %I TO %I', v_name, 'legacy_' || v_name);
END LOOP;

ALTER TABLE memory_blocks
    -- NULL in blocks that are no items, as are all the following.
    ADD COLUMN namespace text[],
    ADD COLUMN key text,
    ADD COLUMN value jsonb,
    -- The first half of the SHA-256 of namespace and key, which are too long for an index.
    ADD COLUMN name_id uuid,
    -- Rises with every item that is created in the scope, in the order of commits.
    ADD COLUMN position bigint,
    ADD COLUMN ttl_seconds double precision,
    ADD COLUMN refresh_on_read boolean;
CREATE UNIQUE INDEX memory_blocks_item ON memory_blocks (project_id, user_id, name_id)
    WHERE key IS NOT NULL;
CREATE INDEX memory_blocks_item_position ON memory_blocks (project_id, user_id, position)
    WHERE key IS NOT NULL;
-- One namespace in its order: a session among thousands of others.
CREATE INDEX memory_blocks_item_namespace ON memory_blocks
    (project_id, user_id, hash_array_extended(namespace, 0), position) WHERE key IS NOT NULL;
CREATE INDEX memory_blocks_item_expiry ON memory_blocks (expires_at)
    WHERE key IS NOT NULL AND expires_at IS NOT NULL;

-- Search over blocks leaves these passages out without a look at their blocks.
ALTER TABLE memory_passages ADD COLUMN IF NOT EXISTS item boolean NOT NULL DEFAULT false;

END;

INSERT INTO memory_migrations (version) VALUES ('0019_items');
END IF;
END $migration_0019$;

DO $migration_0020$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0020_webhooks') THEN
-- Events that applications subscribe to: the outbox, webhook endpoints and the deliveries to them.

CREATE TABLE IF NOT EXISTS memory_webhooks (
    id uuid PRIMARY KEY,
    project_id text NOT NULL,
    -- NULL: events of all users of the project.
    user_id text,
    url text NOT NULL,
    description text,
    -- Empty: every type.
    event_types text[] NOT NULL DEFAULT '{}',
    include_content boolean NOT NULL DEFAULT false,
    -- Prefix of the API key that created it; NULL for other credentials.
    created_by text,
    -- Secrets are derived from the installation's own; rotation raises the version.
    secret_version integer NOT NULL DEFAULT 1,
    previous_secret_until timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    disabled_at timestamptz,
    disabled_reason text,
    -- Consecutive failed attempts, since when, and until when no attempt is made.
    failures integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    circuit_until timestamptz,
    last_success_at timestamptz,
    -- The job that delivers to it: one at a time.
    held_by bigint,
    held_until timestamptz,
    -- No further job is enqueued for its backlog before this.
    prompted_until timestamptz
) WITH (fillfactor = 50);
CREATE INDEX IF NOT EXISTS memory_webhooks_project ON memory_webhooks (project_id, id);

-- Projects whose events are read as a stream.
CREATE TABLE IF NOT EXISTS memory_event_streams (
    project_id text PRIMARY KEY,
    read_at timestamptz NOT NULL,
    -- Events up to this position may be deleted, or were never recorded.
    gone_until bigint NOT NULL DEFAULT 0
);

-- The outbox: an event is written by the statement that makes it true.
CREATE TABLE IF NOT EXISTS memory_events (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    event_id uuid NOT NULL,
    project_id text NOT NULL,
    -- Empty once the user is erased.
    user_id text NOT NULL,
    type text NOT NULL,
    block_id uuid,
    data jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    -- Its place in the stream, given after the commit: ids are not committed in their order.
    position bigint
);
CREATE INDEX IF NOT EXISTS memory_events_scope ON memory_events (project_id, user_id);
CREATE INDEX IF NOT EXISTS memory_events_stream ON memory_events (project_id, position)
    WHERE position IS NOT NULL;
CREATE INDEX IF NOT EXISTS memory_events_unplaced ON memory_events (id) WHERE position IS NULL;
CREATE SEQUENCE IF NOT EXISTS memory_event_positions OWNED BY memory_events.position;

CREATE TABLE IF NOT EXISTS memory_webhook_deliveries (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    webhook_id uuid NOT NULL,
    event_id bigint NOT NULL,
    project_id text NOT NULL,
    user_id text NOT NULL,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'delivered', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    -- Of the last attempt.
    attempted_at timestamptz,
    response_status integer,
    error text,
    created_at timestamptz NOT NULL,
    delivered_at timestamptz
);
CREATE INDEX IF NOT EXISTS memory_webhook_deliveries_due
    ON memory_webhook_deliveries (webhook_id, due_at, id) WHERE status = 'pending';
CREATE INDEX IF NOT EXISTS memory_webhook_deliveries_list
    ON memory_webhook_deliveries (webhook_id, id);
CREATE INDEX IF NOT EXISTS memory_webhook_deliveries_event ON memory_webhook_deliveries (event_id);
CREATE INDEX IF NOT EXISTS memory_webhook_deliveries_scope
    ON memory_webhook_deliveries (project_id, user_id);

INSERT INTO memory_secrets (name, value)
VALUES ('webhooks', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())))
ON CONFLICT DO NOTHING;

-- Wider than before, so every row fits: NOT VALID spares the table's scan.
ALTER TABLE memory_jobs DROP CONSTRAINT IF EXISTS memory_jobs_job_type_check;
ALTER TABLE memory_jobs ADD CONSTRAINT memory_jobs_job_type_check CHECK (job_type IN (
    'enrich_and_embed', 'detect_relations', 'weekly_summary', 'reembed', 'deliver_webhook')) NOT VALID;
ALTER TABLE memory_job_pauses DROP CONSTRAINT IF EXISTS memory_job_pauses_job_type_check;
ALTER TABLE memory_job_pauses ADD CONSTRAINT memory_job_pauses_job_type_check CHECK (job_type IN (
    'all', 'enrich_and_embed', 'detect_relations', 'weekly_summary', 'reembed', 'deliver_webhook'));

ALTER TABLE memory_webhooks ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_event_streams ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_webhook_deliveries ENABLE ROW LEVEL SECURITY;

INSERT INTO memory_migrations (version) VALUES ('0020_webhooks');
END IF;
END $migration_0020$;

DO $migration_0021$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0021_blocks_by_id') THEN
-- A block is found by its id alone, as interfaces need it that do not name its user. Of an expression, so that
-- no other statement, all of which name the scope, takes this index instead of the key that begins with it.
CREATE INDEX IF NOT EXISTS memory_blocks_id ON memory_blocks (uuid_send(id));

INSERT INTO memory_migrations (version) VALUES ('0021_blocks_by_id');
END IF;
END $migration_0021$;

DO $migration_0022$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0022_console') THEN
-- What lists of users and keys read, the last error of a provider, and the history of the service's numbers.

ALTER TABLE memory_users
    -- The hour of last_ingest_at. It changes once an hour, so an index can have it: an index on the instant itself
    -- would be written by every write of the scope, none of which would be a HOT update.
    ADD COLUMN IF NOT EXISTS active_hour timestamptz NOT NULL DEFAULT '-infinity';
CREATE INDEX IF NOT EXISTS memory_users_active ON memory_users (project_id, active_hour);
-- In the order of code points, which finds users by the beginning of their id whatever the database's collation.
CREATE INDEX IF NOT EXISTS memory_users_name ON memory_users (project_id, user_id COLLATE "C");
CREATE INDEX IF NOT EXISTS memory_api_keys_project ON memory_api_keys (project_id, created_at, prefix);

ALTER TABLE memory_circuits
    -- The last failure, also after later calls succeeded.
    ADD COLUMN IF NOT EXISTS last_code text,
    ADD COLUMN IF NOT EXISTS last_reason text,
    ADD COLUMN IF NOT EXISTS last_failed_at timestamptz;

-- Numbers of all processes together, one row a minute of the last day and one an hour of the last 30 days.
CREATE TABLE IF NOT EXISTS memory_history (
    resolution text NOT NULL CHECK (resolution IN ('minute', 'hour')),
    at timestamptz NOT NULL,
    -- By name: counts, which add up, and states, of which the highest is kept.
    sums jsonb NOT NULL DEFAULT '{}',
    peaks jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (resolution, at)
) WITH (fillfactor = 50);
ALTER TABLE memory_history ENABLE ROW LEVEL SECURITY;

INSERT INTO memory_migrations (version) VALUES ('0022_console');
END IF;
END $migration_0022$;

DO $migration_0023$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0023_partition_routing') THEN
-- Users are in several partitions: one may be paused, as while it is moved. A new database gets the table here,
-- before the migration that made it at first.
CREATE TABLE IF NOT EXISTS memory_partitions (
    -- 0 is the home partition, whose directory this is; in the others the table stays empty.
    number integer PRIMARY KEY CHECK (number >= 0),
    schema_name text NOT NULL,
    -- NULL: at the address of the home partition.
    dsn text,
    state text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE memory_partitions DROP CONSTRAINT IF EXISTS memory_partitions_state_check;
ALTER TABLE memory_partitions ADD CONSTRAINT memory_partitions_state_check
    CHECK (state IN ('creating', 'prepared', 'serving', 'paused'));

INSERT INTO memory_migrations (version) VALUES ('0023_partition_routing');
END IF;
END $migration_0023$;

DO $migration_0026$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0026_items_by_name') THEN
-- An item is found by its name without reading its user's other items.

-- Until the table is analyzed for the first time, every index that begins with the scope costs the planner the
-- same, and a write read all items of its user. Here the scope is a number, which no other index begins with
-- (0012 did the same for repeated blocks).
-- Not unique: two users may share the number (memory_blocks_item keeps names unique within a user).
CREATE INDEX IF NOT EXISTS memory_blocks_item_name ON memory_blocks
    (hashtextextended(user_id, hashtextextended(project_id, 0)), name_id)
    WHERE key IS NOT NULL;

INSERT INTO memory_migrations (version) VALUES ('0026_items_by_name');
END IF;
END $migration_0026$;

DO $migration_0027$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0027_partitionable') THEN
-- Policies compare with the function itself: a distributed table refuses a subquery in one. It is stable, so an
-- index scan still calls it once. Policies that an operator wrote in their place stay.
DECLARE
    v_table text;
BEGIN
FOR v_table IN
    SELECT tablename FROM pg_policies
    WHERE schemaname = current_schema() AND policyname = 'own_rows'
      AND qual ~ 'SELECT (\w+\.)?memory_token_subject\(\)'
LOOP
    EXECUTE format('ALTER POLICY own_rows ON %I
        USING (project_id = ''default'' AND user_id = memory_token_subject())', v_table);
END LOOP;
END;

INSERT INTO memory_migrations (version) VALUES ('0027_partitionable');
END IF;
END $migration_0027$;

DO $migration_0028$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0028_partitions') THEN
-- The directory of partitions, empty as long as there is one partition only.
CREATE TABLE IF NOT EXISTS memory_partitions (
    -- 0 is the home partition, whose directory this is; in the others the table stays empty.
    number integer PRIMARY KEY CHECK (number >= 0),
    schema_name text NOT NULL,
    -- NULL: at the address of the home partition.
    dsn text,
    state text NOT NULL CHECK (state IN ('creating', 'prepared', 'serving')),
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE memory_partitions ENABLE ROW LEVEL SECURITY;

INSERT INTO memory_migrations (version) VALUES ('0028_partitions');
END IF;
END $migration_0028$;

DO $migration_0029$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0029_partition_moves') THEN
-- Moves of partitions to other places that have begun and are not finished, in the home partition's schema.
CREATE TABLE IF NOT EXISTS memory_partition_moves (
    number integer PRIMARY KEY CHECK (number > 0),
    -- Also in the copy at the target: it shows whose copy that is.
    move_id uuid NOT NULL,
    schema_name text NOT NULL,
    -- NULL: to the address of the home partition.
    dsn text,
    -- The old schema's name once the partition has moved.
    old_schema text NOT NULL,
    phase text NOT NULL CHECK (phase IN ('copying', 'following', 'switching')),
    rows bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    rounds integer NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE memory_partition_moves ENABLE ROW LEVEL SECURITY;

INSERT INTO memory_migrations (version) VALUES ('0029_partition_moves');
END IF;
END $migration_0029$;

DO $migration_0030$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0030_logged_items') THEN
-- The log of changes names items as well, so that copies of a scope can hold them.

ALTER TABLE memory_changes
    -- Whether block_ids has the items among the changed blocks. False by an earlier version's functions, whose
    -- entries leave out the items that are put and deleted.
    ADD COLUMN IF NOT EXISTS has_items boolean NOT NULL DEFAULT false;

INSERT INTO memory_migrations (version) VALUES ('0030_logged_items');
END IF;
END $migration_0030$;

DO $migration_0031$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0031_partition_users') THEN
-- A running database is split into partitions user by user, or united again; and a pause ends by itself when the
-- command that began it is gone.
ALTER TABLE memory_partitions ADD COLUMN IF NOT EXISTS paused_until timestamptz;
ALTER TABLE memory_partitions DROP CONSTRAINT IF EXISTS memory_partitions_state_check;
ALTER TABLE memory_partitions ADD CONSTRAINT memory_partitions_state_check
    CHECK (state IN ('creating', 'prepared', 'adopting', 'serving', 'paused', 'returning'));

-- While users are moved one by one: those that this partition still has and will not keep.
CREATE TABLE IF NOT EXISTS memory_partition_users (
    project_id text NOT NULL,
    user_id text NOT NULL,
    -- The keys of changed rows are logged, as a first copy is being made.
    is_copied boolean NOT NULL DEFAULT false,
    PRIMARY KEY (project_id, user_id)
);
ALTER TABLE memory_partition_users ENABLE ROW LEVEL SECURITY;

INSERT INTO memory_migrations (version) VALUES ('0031_partition_users');
END IF;
END $migration_0031$;

DO $migration_0032$ BEGIN
IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '0032_items_with_a_time_to_live') THEN
-- Whether a user has items with a time to live, which a replica may not show (docs/adr/0027-read-replica.md).

-- The scope as a number, as in memory_blocks_item_name: no other statement uses this index by mistake.
CREATE INDEX IF NOT EXISTS memory_blocks_item_ttl ON memory_blocks
    (hashtextextended(user_id, hashtextextended(project_id, 0)))
    WHERE ttl_seconds IS NOT NULL;

INSERT INTO memory_migrations (version) VALUES ('0032_items_with_a_time_to_live');
END IF;
END $migration_0032$;

-- Add a process's counts since its last call; delete hours older than two days.
CREATE OR REPLACE FUNCTION add_memory_cache_counts(
    p_hours timestamptz[], p_hits bigint[], p_misses bigint[]
) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO memory_cache_hours AS c (hour, hits, misses)
    SELECT i.hour, i.hits, i.misses FROM unnest(p_hours, p_hits, p_misses) AS i (hour, hits, misses)
    ORDER BY i.hour
    ON CONFLICT (hour) DO UPDATE
    SET hits = c.hits + excluded.hits, misses = c.misses + excluded.misses;
    DELETE FROM memory_cache_hours WHERE hour < p_hours[1] - interval '2 days';
END $body$;

-- What clients change after a block was accepted: edit it, delete it, erase or import a whole user.
-- Rows are locked in the order jobs, users, blocks, as everywhere.

-- Change a block that still has revision p_revision. p_changes holds the columns that change; with
-- p_passage_ordinal the text changed too: the passages are replaced, facts derived from the old
-- text are removed, and a job enriches it again. Returns the new revision, or no row if the block does
-- not exist or has another revision.
CREATE OR REPLACE FUNCTION edit_memory_block(
    p_project_id text, p_user_id text, p_block_id uuid, p_revision integer, p_changed_by text,
    p_changes jsonb, p_content_hash bytea,
    p_passage_ordinal integer[], p_passage_start integer[], p_passage_stop integer[],
    p_passage_lexemes sparsevec[], p_max_attempts integer
) RETURNS SETOF integer LANGUAGE plpgsql SET lock_timeout = '250ms' AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_anew boolean := p_passage_ordinal IS NOT NULL;
    v_job bigint;
    v_runs boolean;
    v_before memory_blocks;
    v_after memory_blocks;
BEGIN
    -- A pending job of this block will read the new version; a running one has read the old version,
    -- and its result is dropped because of the revision, whatever was edited: another job follows.
    SELECT id INTO v_job FROM memory_jobs
    WHERE block_id = p_block_id AND status = 'pending' AND job_type = 'enrich_and_embed'
      AND project_id = p_project_id AND user_id = p_user_id
    LIMIT 1 FOR UPDATE SKIP LOCKED;
    PERFORM FROM memory_users
    WHERE project_id = p_project_id AND user_id = p_user_id FOR UPDATE;
    SELECT * INTO v_before FROM memory_blocks
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id
      AND revision = p_revision FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_after := jsonb_populate_record(v_before, p_changes);

    -- Blocks that it supersedes are superseded from its time on.
    PERFORM raise_memory_version(p_project_id, p_user_id, p_block_id || ARRAY(
        SELECT id FROM memory_blocks
        WHERE project_id = p_project_id AND user_id = p_user_id AND superseded_by = p_block_id
          AND p_changes ? 'occurred_at'), v_now);
    INSERT INTO memory_block_revisions (project_id, user_id, block_id, revision, reason, changed_by,
        before, created_at)
    VALUES (p_project_id, p_user_id, p_block_id, p_revision, 'edit', p_changed_by,
        to_jsonb(v_before) - ARRAY['project_id', 'user_id', 'id', 'idempotency_key', 'content_hash',
            'request_hash', 'job_id', 'revision'], v_now);

    -- The changed fields among those a client may send; callers validate names and values.
    EXECUTE (
        SELECT format('UPDATE memory_blocks SET content_hash = coalesce($5, content_hash),
                revision = $6, updated_at = $7, (%s) = ROW(%s)
                WHERE project_id = $2 AND user_id = $3 AND id = $4',
            string_agg(quote_ident(f.name), ', '), string_agg('($1).' || quote_ident(f.name), ', '))
        FROM (SELECT a.attname AS name FROM pg_attribute AS a
              WHERE a.attrelid = 'memory_block_input'::regclass AND p_changes ? a.attname::text
                AND a.attname NOT IN ('id', 'project_id', 'user_id', 'content', 'external_id',
                    'idempotency_key', 'content_hash', 'request_hash', 'job_id', 'created_at', 'updated_at')
              UNION ALL SELECT 'content') AS f  -- never an empty list
    ) USING v_after, p_project_id, p_user_id, p_block_id, p_content_hash, p_revision + 1, v_now;

    PERFORM stale_memory_summaries(p_project_id, p_user_id, p_block_id,
        ARRAY[coalesce(v_before.occurred_at, v_before.created_at),
              coalesce(v_after.occurred_at, v_after.created_at)], v_now);

    IF NOT v_anew THEN
        UPDATE memory_passages SET session_id = v_after.session_id, expires_at = v_after.expires_at
        WHERE project_id = p_project_id AND user_id = p_user_id AND block_id = p_block_id;
        v_runs := v_before.status = 'pending_enrichment' OR EXISTS (SELECT FROM memory_jobs
            WHERE block_id = p_block_id AND status = 'processing' AND job_type = 'enrich_and_embed'
              AND project_id = p_project_id AND user_id = p_user_id);
        IF v_job IS NULL AND v_runs THEN
            PERFORM enqueue_memory_jobs(ARRAY[p_project_id], ARRAY[p_user_id],
                ARRAY['enrich_and_embed'], ARRAY[p_block_id], ARRAY[NULL::jsonb], ARRAY[0],
                ARRAY[NULL::timestamptz], ARRAY[NULL::text], p_max_attempts);
        END IF;
        RETURN NEXT p_revision + 1;
        RETURN;
    END IF;

    UPDATE memory_blocks
    SET title = NULL, summary = NULL, tags = '{}', entities = '[]', importance = NULL,
        language = NULL, enrichment = 'none', status = 'pending_enrichment', error = NULL
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id;
    -- They were derived from the old text; relations that a user rejected stay rejected.
    PERFORM unrelate_memory_block(p_project_id, p_user_id, p_block_id, false, p_changed_by, v_now);
    PERFORM forget_memory_windows(p_project_id, p_user_id, p_block_id);
    DELETE FROM memory_passages
    WHERE project_id = p_project_id AND user_id = p_user_id AND block_id = p_block_id;
    INSERT INTO memory_passages (project_id, user_id, block_id, ordinal, start_at, stop_at,
        session_id, occurred_at, expires_at, speaker_key, lexemes)
    SELECT p_project_id, p_user_id, p_block_id, p.ordinal, p.start_at, p.stop_at,
           v_after.session_id, coalesce(v_after.occurred_at, v_after.created_at),
           v_after.expires_at, memory_speaker_key(v_after.speaker), p.lexemes
    FROM unnest(p_passage_ordinal, p_passage_start, p_passage_stop, p_passage_lexemes)
         AS p (ordinal, start_at, stop_at, lexemes);

    IF v_job IS NULL THEN
        PERFORM enqueue_memory_jobs(ARRAY[p_project_id], ARRAY[p_user_id],
            ARRAY['enrich_and_embed'], ARRAY[p_block_id], ARRAY[NULL::jsonb], ARRAY[0],
            ARRAY[NULL::timestamptz], ARRAY[NULL::text], p_max_attempts);
    ELSE
        -- Its attempts were spent on the old text.
        UPDATE memory_jobs
        SET attempts = 0, run_at = v_now, fair_at = least(fair_at, memory_queue_place(v_now)),
            error_class = NULL, last_error = NULL
        WHERE id = v_job;
    END IF;
    RETURN NEXT p_revision + 1;
END $body$;

-- Delete a block, whatever revision it has or only p_revision, with all that refers to it. Its open
-- jobs are cancelled; the result of a running one is rejected. Returns 'deleted',
-- 'missing' or 'stale'.
CREATE OR REPLACE FUNCTION delete_memory_block(
    p_project_id text, p_user_id text, p_block_id uuid, p_revision integer
) RETURNS text LANGUAGE plpgsql SET lock_timeout = '250ms' AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_jobs bigint[];
    v_revision integer;
BEGIN
    v_jobs := ARRAY(SELECT id FROM memory_jobs
        WHERE block_id = p_block_id AND status IN ('pending', 'processing')
          AND project_id = p_project_id AND user_id = p_user_id
        ORDER BY id FOR UPDATE);
    PERFORM FROM memory_users
    WHERE project_id = p_project_id AND user_id = p_user_id FOR UPDATE;
    SELECT revision INTO v_revision FROM memory_blocks
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id FOR UPDATE;
    IF v_revision IS NULL THEN
        RETURN 'missing';
    ELSIF v_revision <> p_revision THEN
        RETURN 'stale';
    END IF;

    PERFORM raise_memory_version(p_project_id, p_user_id, ARRAY[p_block_id], v_now);
    UPDATE memory_jobs
    SET status = 'cancelled', finished_at = v_now, locked_until = NULL,
        last_error = 'its block was deleted'
    WHERE id = ANY (v_jobs);

    -- A late repetition of the request that created it gets the first response, and no second block.
    INSERT INTO memory_idempotency (project_id, user_id, idempotency_key, operation, request_hash,
        block_id, job_id, created_at)
    SELECT project_id, user_id, idempotency_key, 'POST /blocks', request_hash, id, job_id, v_now
    FROM memory_blocks
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id
      AND idempotency_key IS NOT NULL
    ON CONFLICT DO NOTHING;
    -- Stored responses to idempotent requests contain the old text.
    DELETE FROM memory_idempotency
    WHERE project_id = p_project_id AND user_id = p_user_id AND block_id = p_block_id
      AND body IS NOT NULL;
    PERFORM unrelate_memory_block(p_project_id, p_user_id, p_block_id, true,
        'deletion of ' || p_block_id, v_now);
    -- Remove its sentences from summaries at once; the rest stays until the summary is written again.
    UPDATE memory_summaries AS s
    SET stale = true, updated_at = v_now, comparison = NULL,
        block_ids = array_remove(s.block_ids, p_block_id),
        highlights = k.kept, text = k.kept_text
    FROM (SELECT m.week_start,
                 coalesce(jsonb_agg(h.value ORDER BY h.n) FILTER (WHERE NOT h.value -> 'block_ids'
                     ? p_block_id::text), '[]') AS kept,
                 coalesce(string_agg(h.value ->> 'text', E'\n' ORDER BY h.n) FILTER (
                     WHERE NOT h.value -> 'block_ids' ? p_block_id::text), '') AS kept_text
          FROM memory_summaries AS m
          LEFT JOIN LATERAL jsonb_array_elements(m.highlights) WITH ORDINALITY AS h (value, n) ON true
          WHERE m.project_id = p_project_id AND m.user_id = p_user_id
            AND p_block_id = ANY (m.block_ids)
          GROUP BY m.week_start) AS k
    WHERE s.project_id = p_project_id AND s.user_id = p_user_id AND s.week_start = k.week_start;
    PERFORM stale_memory_summaries(p_project_id, p_user_id, p_block_id,
        ARRAY[(SELECT coalesce(occurred_at, created_at) FROM memory_blocks
               WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id)], v_now);
    DELETE FROM memory_block_revisions
    WHERE project_id = p_project_id AND user_id = p_user_id AND block_id = p_block_id;
    PERFORM forget_memory_windows(p_project_id, p_user_id, p_block_id);
    DELETE FROM memory_passages
    WHERE project_id = p_project_id AND user_id = p_user_id AND block_id = p_block_id;
    DELETE FROM memory_blocks
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id;
    RETURN 'deleted';
END $body$;

-- Delete blocks of one user, each with all that refers to it; returns how many there were. Their open jobs
-- are locked first, all of them: one after the other they would be taken after the user's row, against the
-- order of locks.
CREATE OR REPLACE FUNCTION delete_memory_blocks(p_project_id text, p_user_id text, p_block_ids uuid[])
RETURNS integer LANGUAGE plpgsql SET lock_timeout = '250ms' AS $body$
DECLARE
    v_block_id uuid;
    v_deleted integer := 0;
BEGIN
    PERFORM FROM memory_jobs
    WHERE block_id = ANY (p_block_ids) AND status IN ('pending', 'processing')
      AND project_id = p_project_id AND user_id = p_user_id
    ORDER BY id FOR UPDATE;
    FOREACH v_block_id IN ARRAY p_block_ids LOOP
        IF delete_memory_block(p_project_id, p_user_id, v_block_id, NULL) = 'deleted' THEN
            v_deleted := v_deleted + 1;
        END IF;
    END LOOP;
    RETURN v_deleted;
END $body$;

-- What stands for a user in the record of an erasure. It is made with a secret, for user ids can be
-- guessed one by one.
CREATE OR REPLACE FUNCTION memory_user_digest(p_project_id text, p_user_id text)
RETURNS bytea LANGUAGE sql STABLE AS $body$
    SELECT sha256((SELECT value FROM memory_secrets WHERE name = 'receipts')
        || convert_to(p_project_id, 'UTF8') || '\x00'::bytea || convert_to(p_user_id, 'UTF8'))
$body$;

-- Delete a user's jobs among the ids (p_after, p_after + p_span]. No index finds a user's ended jobs,
-- for maintaining one would slow down every job; so an erasure scans the table in steps, before it
-- locks anything. Returns how many were deleted.
CREATE OR REPLACE FUNCTION sweep_memory_jobs(
    p_project_id text, p_user_id text, p_after bigint, p_span bigint
) RETURNS bigint LANGUAGE plpgsql AS $body$
DECLARE
    v_deleted bigint;
BEGIN
    DELETE FROM memory_jobs
    WHERE id > p_after AND id <= p_after + p_span
      AND project_id = p_project_id AND user_id = p_user_id;
    GET DIAGNOSTICS v_deleted = ROW_COUNT;
    RETURN v_deleted;
END $body$;

-- Erase a user: every row of every table that names one, in one transaction, and record that it
-- happened. p_last_job: jobs up to this id were deleted before. Tables are found by their columns,
-- so that one added later cannot be forgotten.
--
-- Concurrent work stores nothing again: a worker's result is written only together with its
-- job, which is gone, and a transaction that accepts a block holds or awaits the user's row. A job that is
-- being completed at this moment holds its row and awaits the user's: then this gives up
-- (lock_not_available) and is to be called again.
CREATE OR REPLACE FUNCTION erase_memory_user(
    p_project_id text, p_user_id text, p_id uuid, p_key_digest bytea,
    p_started_at timestamptz, p_last_job bigint, p_swept bigint, p_cached bigint
) RETURNS TABLE (counts jsonb, erased_at timestamptz) LANGUAGE plpgsql SET lock_timeout = '2s' AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_table text;
    v_deleted bigint;
    v_jobs bigint;
    -- Ids are assigned before commit: some below the last one may have been committed later. Where the partition was
    -- moved, ids are in ranges of 2^36 each, of which any may be the one in use.
    v_after bigint[] := ARRAY[p_last_job - 100000];
    v_before bigint[] := ARRAY[((p_last_job >> 36) + 1) << 36];
    v_last bigint := 9223372036854775807;
    v_counts jsonb := '{}';
    v_revoked_at timestamptz := now();
BEGIN
    LOOP
        SELECT max(id) INTO v_last FROM memory_jobs WHERE id < v_last;
        EXIT WHEN v_last IS NULL;
        IF v_last >> 36 <> p_last_job >> 36 THEN
            v_after := v_after || (v_last - 100000);
            v_before := v_before || (((v_last >> 36) + 1) << 36);
        END IF;
        v_last := (v_last >> 36) << 36;
    END LOOP;
    -- Before the user's row, in the order of locks; waits for jobs that are being completed.
    DELETE FROM memory_jobs AS j USING unnest(v_after, v_before) AS r (after, before)
    WHERE j.id > r.after AND j.id < r.before AND j.project_id = p_project_id AND j.user_id = p_user_id;
    GET DIAGNOSTICS v_jobs = ROW_COUNT;
    -- A transaction that accepts a block of this user has committed, or waits until this one has.
    INSERT INTO memory_users (project_id, user_id) VALUES (p_project_id, p_user_id)
    ON CONFLICT (project_id, user_id) DO UPDATE SET version = memory_users.version;
    -- The same holds for a transaction that records spending for the user.
    PERFORM FROM memory_users
    WHERE project_id = p_project_id AND user_id = p_user_id FOR UPDATE;
    PERFORM FROM memory_jobs AS j JOIN unnest(v_after, v_before) AS r (after, before) ON j.id > r.after AND j.id < r.before
    WHERE j.project_id = p_project_id AND j.user_id = p_user_id FOR UPDATE OF j NOWAIT;
    DELETE FROM memory_jobs AS j USING unnest(v_after, v_before) AS r (after, before)
    WHERE j.id > r.after AND j.id < r.before AND j.project_id = p_project_id AND j.user_id = p_user_id;
    GET DIAGNOSTICS v_deleted = ROW_COUNT;
    v_counts := jsonb_build_object('jobs', p_swept + v_jobs + v_deleted,
        'cached_entries', p_cached);

    -- A key for this user grants nothing any more. The row stays, without the user: the API requires
    -- a key as long as any key row exists.
    UPDATE memory_api_keys SET revoked_at = coalesce(revoked_at, v_revoked_at), user_id = '', name = NULL
    WHERE project_id = p_project_id AND user_id = p_user_id;
    GET DIAGNOSTICS v_deleted = ROW_COUNT;
    v_counts := v_counts || jsonb_build_object('api_keys', v_deleted);

    FOR v_table IN
        SELECT c.relname FROM pg_class AS c
        WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind IN ('r', 'p')
          AND c.relname LIKE 'memory\_%' AND c.relname !~ '[0-9]$'  -- not a shard of Citus
          AND c.relname NOT IN ('memory_jobs', 'memory_users', 'memory_api_keys')
          AND 2 = (SELECT count(*) FROM pg_attribute AS a
                   WHERE a.attrelid = c.oid AND a.attname IN ('project_id', 'user_id')
                     AND NOT a.attisdropped)
        ORDER BY c.relname
    LOOP
        EXECUTE format('DELETE FROM %I WHERE project_id = $1 AND user_id = $2', v_table)
        USING p_project_id, p_user_id;
        GET DIAGNOSTICS v_deleted = ROW_COUNT;
        v_counts := v_counts || jsonb_build_object(substr(v_table, 8), v_deleted);
    END LOOP;
    DELETE FROM memory_users WHERE project_id = p_project_id AND user_id = p_user_id;

    v_now := clock_timestamp();
    INSERT INTO memory_erasures (id, project_id, user_digest, key_digest, counts, started_at, erased_at)
    VALUES (p_id, p_project_id, memory_user_digest(p_project_id, p_user_id), p_key_digest, v_counts,
        p_started_at, v_now);
    -- Under no user, so that it stays when the user is counted or erased once more.
    PERFORM record_memory_events('user.erased', ARRAY[p_project_id], ARRAY[''], ARRAY[NULL::uuid],
        ARRAY[jsonb_build_object('user_id', p_user_id, 'receipt_id', p_id)]);
    RETURN QUERY SELECT v_counts, v_now;
END $body$;

-- How many rows of every table name this user; keys and receipts of erasures are not counted.
CREATE OR REPLACE FUNCTION count_memory_rows(p_project_id text, p_user_id text)
RETURNS TABLE (name text, count bigint) LANGUAGE plpgsql STABLE AS $body$
DECLARE
    v_table text;
BEGIN
    FOR v_table IN
        SELECT c.relname FROM pg_class AS c
        WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind IN ('r', 'p')
          AND c.relname LIKE 'memory\_%' AND c.relname !~ '[0-9]$'  -- not a shard of Citus
          AND 2 = (SELECT pg_catalog.count(*) FROM pg_attribute AS a
                   WHERE a.attrelid = c.oid AND a.attname IN ('project_id', 'user_id')
                     AND NOT a.attisdropped)
        ORDER BY c.relname
    LOOP
        RETURN QUERY EXECUTE format(
            'SELECT %L, pg_catalog.count(*) FROM %I WHERE project_id = $1 AND user_id = $2',
            substr(v_table, 8), v_table)
        USING p_project_id, p_user_id;
    END LOOP;
END $body$;

-- The job id of an imported block: the exported one, unless no job of this user can have had that
-- id; then a new id that no job will get.
CREATE OR REPLACE FUNCTION memory_own_job_id(p_project_id text, p_user_id text, p_job_id bigint)
RETURNS bigint LANGUAGE plpgsql AS $body$
BEGIN
    IF p_job_id BETWEEN 1 AND (SELECT last_value FROM memory_jobs_id_seq)
       AND NOT EXISTS (SELECT FROM memory_jobs AS j WHERE j.id = p_job_id
           AND (j.project_id, j.user_id) IS DISTINCT FROM (p_project_id, p_user_id)) THEN
        RETURN p_job_id;
    END IF;
    RETURN nextval('memory_jobs_id_seq');
END $body$;

-- Store exported rows of one table for a user. Existing rows stay unchanged. Columns this
-- version does not know are left out, those the rows do not have get their default. Returns how many
-- were stored.
CREATE OR REPLACE FUNCTION import_memory_rows(
    p_project_id text, p_user_id text, p_table text, p_rows jsonb[]
) RETURNS bigint LANGUAGE plpgsql AS $body$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_columns text;
    v_values text;
    v_identities text[];
    v_find_stored text;
    v_known bigint[];
    v_user jsonb;
    v_ingest_at timestamptz;
    v_hour timestamptz;
    v_stored bigint;
BEGIN
    INSERT INTO memory_users (project_id, user_id) VALUES (p_project_id, p_user_id)
    ON CONFLICT (project_id, user_id) DO NOTHING;
    PERFORM raise_memory_version(p_project_id, p_user_id, NULL, v_now);
    IF p_table = 'memory_users' THEN
        -- An unknown time zone fails here, and not later in the weekly summaries of all users.
        v_user := p_rows[1];
        PERFORM v_now AT TIME ZONE (v_user ->> 'time_zone');
        v_ingest_at := v_user ->> 'last_ingest_at';
        v_hour := date_trunc('hour', v_ingest_at, 'UTC');
        UPDATE memory_users
        SET time_zone = coalesce(v_user ->> 'time_zone', time_zone),
            last_ingest_at = coalesce(v_ingest_at, last_ingest_at),
            active_hour = coalesce(v_hour, active_hour)
        WHERE project_id = p_project_id AND user_id = p_user_id;
        RETURN 1;
    END IF;
    -- Values of identity columns come from sequences that all users share: an imported one could exhaust
    -- them. Such a row is recognized by its other columns, so that an import can be repeated.
    v_identities := ARRAY(SELECT a.attname::text FROM pg_attribute AS a
        WHERE a.attrelid = p_table::regclass AND a.attidentity <> '' AND NOT a.attisdropped);
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),
           string_agg(CASE WHEN a.attname = 'job_id' THEN 'memory_own_job_id($2, $3, n.job_id)'
                           ELSE 'n.' || quote_ident(a.attname) END, ', ' ORDER BY a.attnum)
    INTO v_columns, v_values
    FROM pg_attribute AS a
    WHERE a.attrelid = p_table::regclass AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attgenerated = '' AND a.attname <> ALL (v_identities)
      AND (a.attname IN ('project_id', 'user_id', 'job_id') OR p_rows[1] ? a.attname);
    IF v_identities <> '{}' THEN
        SELECT format('SELECT array_agg(DISTINCT r.position)
             FROM unnest($1) WITH ORDINALITY AS r (data, position),
                 jsonb_populate_record(NULL::%1$I,
                     r.data || jsonb_build_object(''project_id'', $2, ''user_id'', $3)) AS n, %1$I AS e
             WHERE %2$s AND (to_jsonb(e) - $4) @> (jsonb_strip_nulls(to_jsonb(n)) - $4)',
            p_table, string_agg(format('e.%1$I = n.%1$I', a.attname), ' AND '))
        INTO v_find_stored
        FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = p_table::regclass AND i.indisprimary AND a.attname <> ALL (v_identities);
        EXECUTE v_find_stored INTO v_known USING p_rows, p_project_id, p_user_id, v_identities;
        p_rows := ARRAY(SELECT r.data FROM unnest(p_rows) WITH ORDINALITY AS r (data, position)
                        WHERE v_known IS NULL OR r.position <> ALL (v_known) ORDER BY r.position);
    END IF;
    EXECUTE format(
        'INSERT INTO %1$I (%2$s)
         SELECT %3$s
         FROM unnest($1) WITH ORDINALITY AS r (data, position),
             jsonb_populate_record(NULL::%1$I,
                 r.data || jsonb_build_object(''project_id'', $2, ''user_id'', $3)) AS n
         ORDER BY r.position
         ON CONFLICT DO NOTHING', p_table, v_columns, v_values)
    USING p_rows, p_project_id, p_user_id;
    GET DIAGNOSTICS v_stored = ROW_COUNT;
    RETURN v_stored;
END $body$;

-- Write back a worker's results for its blocks: facts, passages and completed jobs in one
-- statement. Only jobs that are still the caller's own attempt, and blocks that were not edited
-- since, change. Returns the 1-based positions of the jobs that were completed.
--
-- Arrays of one length describe the jobs; p_passage_* describe all passages of those blocks,
-- p_passage_item being the 1-based position of the job. A NULL title means: enrichment is switched
-- off or was kept before, keep what is there. A NULL embedding means the same for vectors.
-- p_kept: the passages of the job's block are stored as they are, in the words of the default language,
-- and have NULL lexemes here; if another job has set the block's language since, its result is kept.
-- p_tags_and_entities has optional fields: what produced the facts (`model`), why something is
-- missing (`error`), which steps are to be backfilled (`backfill_steps`) and after how long
-- (`backfill_after`: an interval, or 'asked' for on request only); with `relations`, a number of
-- attempts, a job detects relations of each block that becomes active.
CREATE OR REPLACE FUNCTION complete_memory_enrichments(
    p_worker text, p_job_ids bigint[], p_attempts integer[], p_revisions integer[],
    p_titles text[], p_summaries text[], p_tags_and_entities jsonb[],
    p_importances real[], p_languages text[], p_enrichments text[],
    p_passage_item integer[], p_passage_ordinal integer[], p_passage_start integer[],
    p_passage_stop integer[], p_passage_lexemes sparsevec[], p_passage_embeddings halfvec[],
    p_embedding_model text, p_kept boolean[]
) RETURNS SETOF bigint LANGUAGE plpgsql SET lock_timeout = '250ms'
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_done bigint[];
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
    v_items integer[];
    v_fresh record;
    v_enriched record;
BEGIN
    v_done := ARRAY(SELECT complete_memory_jobs(p_job_ids, p_attempts, p_worker));
    IF cardinality(v_done) = 0 THEN
        RETURN;
    END IF;

    SELECT array_agg(j.project_id), array_agg(j.user_id), array_agg(j.block_id), array_agg(i.n)
    INTO v_projects, v_users, v_blocks, v_items
    FROM unnest(p_job_ids) WITH ORDINALITY AS i (job_id, n)
    -- A worker whose lease ran out may write back two attempts of one job: only the later one is valid.
    JOIN memory_jobs AS j ON j.id = i.job_id AND j.attempts = p_attempts[i.n]
    WHERE j.id = ANY (v_done);

    PERFORM raise_memory_versions(v_projects, v_users, v_blocks, v_now);

    -- Keep a revision of an earlier enrichment, or of values that an existing table or
    -- a client's SQL had in these columns; a first enrichment usually has nothing to keep.
    INSERT INTO memory_block_revisions (project_id, user_id, block_id, revision, reason, changed_by, before)
    SELECT b.project_id, b.user_id, b.id, b.revision, 'enrichment', 'job ' || p_job_ids[d.n],
           jsonb_build_object('title', b.title, 'summary', b.summary, 'tags', b.tags,
               'entities', b.entities, 'importance', b.importance, 'language', b.language,
               'enrichment', b.enrichment)
    FROM unnest(v_projects, v_users, v_blocks, v_items) AS d (project_id, user_id, block_id, n)
    JOIN memory_blocks AS b ON b.project_id = d.project_id AND b.user_id = d.user_id AND b.id = d.block_id
    WHERE (b.enrichment <> 'none' OR b.title IS NOT NULL OR b.summary IS NOT NULL OR b.tags <> '{}'
           OR b.entities <> '[]' OR b.importance IS NOT NULL)
      AND b.revision = p_revisions[d.n] AND p_titles[d.n] IS NOT NULL
      AND (b.language IS NULL OR p_kept[d.n] IS NOT TRUE);

    -- Blocks that become active with this, without items: the summaries of their weeks are written again.
    SELECT array_agg(b.project_id) AS projects, array_agg(b.user_id) AS users,
           array_agg(b.id) AS ids,
           array_agg('detect_relations:' || b.id || ':' || b.revision) AS keys,
           max((p_tags_and_entities[d.n] ->> 'relations')::integer) AS attempts
    INTO v_fresh
    FROM unnest(v_projects, v_users, v_blocks, v_items) AS d (project_id, user_id, block_id, n)
    JOIN memory_blocks AS b ON b.project_id = d.project_id AND b.user_id = d.user_id AND b.id = d.block_id
    WHERE b.status <> 'active' AND b.key IS NULL AND b.revision = p_revisions[d.n]
      AND (b.language IS NULL OR p_kept[d.n] IS NOT TRUE);
    UPDATE memory_summaries AS s SET stale = true, updated_at = v_now
    FROM unnest(v_fresh.projects, v_fresh.users, v_fresh.ids) AS i (project_id, user_id, id)
    JOIN memory_blocks AS b ON b.project_id = i.project_id AND b.user_id = i.user_id AND b.id = i.id
    WHERE s.project_id = b.project_id AND s.user_id = b.user_id AND NOT s.stale
      AND coalesce(b.occurred_at, b.created_at) >= s.starts_at
      AND coalesce(b.occurred_at, b.created_at) < s.ends_at;

    -- Passages only if the block is unchanged since it was read.
    WITH block AS (
        UPDATE memory_blocks AS b
        SET title = coalesce(d.title, b.title), summary = coalesce(d.summary, b.summary),
            enrichment_model = coalesce(d.facts ->> 'model', b.enrichment_model),
            enriched_revision = CASE WHEN d.title IS NULL THEN b.enriched_revision ELSE d.revision END,
            backfill_steps = CASE WHEN d.facts ? 'backfill_steps' THEN
                ARRAY(SELECT jsonb_array_elements_text(d.facts -> 'backfill_steps')) END,
            backfill_at = d.backfill_at,
            tags = CASE WHEN d.title IS NULL THEN b.tags
                        ELSE ARRAY(SELECT jsonb_array_elements_text(d.facts -> 'tags')) END,
            entities = coalesce(d.facts -> 'entities', b.entities),
            importance = coalesce(d.importance, b.importance),
            language = coalesce(d.language, b.language),
            enrichment = coalesce(d.enrichment, b.enrichment),
            status = 'active', error = d.facts ->> 'error', updated_at = v_now
        FROM (SELECT i.*, p_revisions[i.n] AS revision, p_titles[i.n] AS title, p_summaries[i.n] AS summary,
                     p_tags_and_entities[i.n] AS facts, p_importances[i.n] AS importance,
                     p_languages[i.n] AS language, p_enrichments[i.n] AS enrichment, p_kept[i.n] AS kept,
                     CASE WHEN p_tags_and_entities[i.n] ->> 'backfill_after' = 'asked' THEN 'infinity'
                          ELSE v_now + (p_tags_and_entities[i.n] ->> 'backfill_after')::interval END AS backfill_at
              FROM unnest(v_projects, v_users, v_blocks, v_items)
                   AS i (project_id, user_id, block_id, n)) AS d
        WHERE b.project_id = d.project_id AND b.user_id = d.user_id AND b.id = d.block_id
          AND b.revision = d.revision
          AND (b.language IS NULL OR d.kept IS NOT TRUE)
        RETURNING b.project_id, b.user_id, b.id, b.session_id, b.speaker, b.expires_at,
                  coalesce(b.occurred_at, b.created_at) AS occurred_at, b.key IS NOT NULL AS item, d.n
    )
    SELECT array_agg(b.n) AS items, array_agg(b.project_id) AS projects, array_agg(b.user_id) AS users,
           array_agg(b.id) AS ids, array_agg(b.session_id) AS sessions, array_agg(b.speaker) AS speakers,
           array_agg(b.expires_at) AS expire_at, array_agg(b.occurred_at) AS occurred_at,
           array_agg(b.item) AS are_items
    INTO v_enriched FROM block AS b;
    WITH stale AS (
        -- If there are fewer passages than before, the extra ones of the longer text are deleted.
        DELETE FROM memory_passages AS m
        USING unnest(v_enriched.items, v_enriched.projects, v_enriched.users, v_enriched.ids)
              AS b (n, project_id, user_id, id)
        JOIN (SELECT p.n, max(p.ordinal) AS last
              FROM unnest(p_passage_item, p_passage_ordinal) AS p (n, ordinal)
              GROUP BY p.n) AS k USING (n)
        WHERE m.project_id = b.project_id AND m.user_id = b.user_id AND m.block_id = b.id
          AND m.ordinal > k.last
    ), embedded AS (
        UPDATE memory_passages AS m SET embedding = p.embedding, embedding_model = p_embedding_model
        FROM unnest(v_enriched.items, v_enriched.projects, v_enriched.users, v_enriched.ids)
             AS b (n, project_id, user_id, id)
        JOIN unnest(p_passage_item, p_passage_ordinal, p_passage_lexemes, p_passage_embeddings)
             AS p (n, ordinal, lexemes, embedding) USING (n)
        WHERE m.project_id = b.project_id AND m.user_id = b.user_id AND m.block_id = b.id
          AND m.ordinal = p.ordinal AND p.lexemes IS NULL AND p.embedding IS NOT NULL
    )
    INSERT INTO memory_passages AS m (project_id, user_id, block_id, ordinal, start_at, stop_at,
        session_id, occurred_at, expires_at, speaker_key, lexemes, embedding, embedding_model, item)
    SELECT b.project_id, b.user_id, b.id, p.ordinal, p.start_at, p.stop_at, b.session_id, b.occurred_at, b.expires_at,
           memory_speaker_key(b.speaker), p.lexemes, p.embedding,
           CASE WHEN p.embedding IS NOT NULL THEN p_embedding_model END, b.item
    FROM unnest(p_passage_item, p_passage_ordinal, p_passage_start, p_passage_stop,
                p_passage_lexemes, p_passage_embeddings)
         AS p (n, ordinal, start_at, stop_at, lexemes, embedding)
    JOIN unnest(v_enriched.items, v_enriched.projects, v_enriched.users, v_enriched.ids, v_enriched.sessions,
                v_enriched.speakers, v_enriched.occurred_at, v_enriched.expire_at, v_enriched.are_items)
         AS b (n, project_id, user_id, id, session_id, speaker, occurred_at, expires_at, item) USING (n)
    WHERE p.lexemes IS NOT NULL
    ON CONFLICT (project_id, user_id, block_id, ordinal) DO UPDATE
    SET start_at = excluded.start_at, stop_at = excluded.stop_at, lexemes = excluded.lexemes,
        speaker_key = excluded.speaker_key,
        embedding = coalesce(excluded.embedding, m.embedding),
        embedding_model = coalesce(excluded.embedding_model, m.embedding_model);

    IF v_fresh.ids IS NOT NULL THEN
        PERFORM record_memory_events('block.active', v_fresh.projects, v_fresh.users, v_fresh.ids,
            NULL);
    END IF;
    IF v_fresh.attempts IS NOT NULL THEN
        -- After the fresh blocks of all users, and without delaying the user's own.
        PERFORM enqueue_memory_jobs(v_fresh.projects, v_fresh.users,
            array_fill('detect_relations'::text, ARRAY[cardinality(v_fresh.ids)]), v_fresh.ids,
            array_fill(NULL::jsonb, ARRAY[cardinality(v_fresh.ids)]),
            array_fill(-5, ARRAY[cardinality(v_fresh.ids)]),
            array_fill(NULL::timestamptz, ARRAY[cardinality(v_fresh.ids)]), v_fresh.keys,
            v_fresh.attempts, '0 ms');
    END IF;
    RETURN QUERY SELECT unnest(v_items)::bigint;
END $body$;

-- As versions before 0012 call it: nothing is kept. Not a default of the other function: if an older
-- version's migration restored its own function, a call with 17 arguments would match both.
CREATE OR REPLACE FUNCTION complete_memory_enrichments(
    p_worker text, p_job_ids bigint[], p_attempts integer[], p_revisions integer[],
    p_titles text[], p_summaries text[], p_tags_and_entities jsonb[],
    p_importances real[], p_languages text[], p_enrichments text[],
    p_passage_item integer[], p_passage_ordinal integer[], p_passage_start integer[],
    p_passage_stop integer[], p_passage_lexemes sparsevec[], p_passage_embeddings halfvec[],
    p_embedding_model text
) RETURNS SETOF bigint LANGUAGE sql AS $body$
    SELECT complete_memory_enrichments(p_worker, p_job_ids, p_attempts, p_revisions, p_titles, p_summaries,
        p_tags_and_entities, p_importances, p_languages, p_enrichments, p_passage_item,
        p_passage_ordinal, p_passage_start, p_passage_stop, p_passage_lexemes, p_passage_embeddings,
        p_embedding_model, NULL)
$body$;

-- Store vectors of some passages of a block that still has p_revision, before the others are computed; returns their
-- ordinals. The user's row is locked before the block's, as everywhere.
CREATE OR REPLACE FUNCTION store_memory_vectors(
    p_project_id text, p_user_id text, p_block_id uuid, p_revision integer, p_model text,
    p_ordinals integer[], p_embeddings halfvec[]
) RETURNS SETOF integer LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM raise_memory_version(p_project_id, p_user_id, ARRAY[p_block_id], clock_timestamp());
    PERFORM FROM memory_blocks
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id AND revision = p_revision
    FOR SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY
    UPDATE memory_passages AS m SET embedding = p.embedding, embedding_model = p_model
    FROM unnest(p_ordinals, p_embeddings) AS p (ordinal, embedding)
    WHERE m.project_id = p_project_id AND m.user_id = p_user_id AND m.block_id = p_block_id
      AND m.ordinal = p.ordinal
    RETURNING m.ordinal;
END $body$;

-- Events: written by the functions that make them true, so that a rolled-back change has none.

-- Record events of one type for those projects that have a subscriber: arrays of one length, p_data
-- NULL for an empty object. Each matching webhook gets a delivery, and one job per webhook delivers
-- them. The caller holds what orders the events of a user; due_at and the ids follow that order.
--
-- Called for every block: without any subscriber it reads two empty tables and writes nothing.
CREATE OR REPLACE FUNCTION record_memory_events(
    p_type text, p_project_ids text[], p_user_ids text[], p_block_ids uuid[], p_data jsonb[]
) RETURNS void LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_events record;
    v_deliveries record;
BEGIN
    IF NOT EXISTS (SELECT FROM memory_webhooks) AND NOT EXISTS (SELECT FROM memory_event_streams) THEN
        RETURN;
    END IF;
    v_now := clock_timestamp();
    WITH recorded AS (
        INSERT INTO memory_events (event_id, project_id, user_id, type, block_id, data, created_at)
        SELECT gen_random_uuid(), i.project_id, i.user_id, p_type, i.block_id, coalesce(i.data, '{}'),
               v_now
        FROM unnest(p_project_ids, p_user_ids, p_block_ids, p_data) WITH ORDINALITY
             AS i (project_id, user_id, block_id, data, n)
        WHERE EXISTS (SELECT FROM memory_event_streams AS s WHERE s.project_id = i.project_id)
           OR EXISTS (SELECT FROM memory_webhooks AS w
                      WHERE w.project_id = i.project_id AND w.disabled_at IS NULL
                        AND (w.user_id IS NULL OR w.user_id = i.user_id)
                        AND (w.event_types = '{}' OR p_type = ANY (w.event_types)))
        ORDER BY i.n
        RETURNING id, project_id, user_id
    )
    SELECT array_agg(r.id) AS ids, array_agg(r.project_id) AS projects, array_agg(r.user_id) AS users
    INTO v_events FROM recorded AS r;
    IF v_events.ids IS NULL THEN
        RETURN;
    END IF;
    WITH delivery AS (
        INSERT INTO memory_webhook_deliveries (webhook_id, event_id, project_id, user_id, due_at, created_at)
        SELECT w.id, e.id, e.project_id, e.user_id, v_now, v_now
        FROM unnest(v_events.ids, v_events.projects, v_events.users) AS e (id, project_id, user_id)
        JOIN memory_webhooks AS w ON w.project_id = e.project_id AND w.disabled_at IS NULL
         AND (w.user_id IS NULL OR w.user_id = e.user_id)
         AND (w.event_types = '{}' OR p_type = ANY (w.event_types))
        ORDER BY e.id, w.id
        RETURNING webhook_id, project_id
    )
    SELECT array_agg(d.webhook_id) AS webhooks, array_agg(d.project_id) AS projects
    INTO v_deliveries FROM (SELECT DISTINCT webhook_id, project_id FROM delivery) AS d;
    INSERT INTO memory_jobs (project_id, user_id, job_type, payload, priority, run_at, fair_at, created_at)
    SELECT d.project_id, '', 'deliver_webhook',
           jsonb_build_object('webhook_id', d.webhook_id), 10, v_now, v_now, v_now
    FROM unnest(v_deliveries.webhooks, v_deliveries.projects) AS d (webhook_id, project_id);
END $body$;

-- Record one delivery for one webhook, whatever its filter and status: a test of it, or an event
-- once more (p_event). Returns the id of the delivery.
CREATE OR REPLACE FUNCTION record_memory_delivery(
    p_project_id text, p_webhook_id uuid, p_event bigint, p_type text, p_data jsonb
) RETURNS bigint LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_event memory_events;
    v_delivery bigint;
BEGIN
    IF p_event IS NULL THEN
        -- In no stream: it happened to no user.
        INSERT INTO memory_events (event_id, project_id, user_id, type, data, created_at, position)
        VALUES (gen_random_uuid(), p_project_id, '', p_type, p_data, v_now, 0)
        RETURNING * INTO v_event;
    ELSE
        -- An erasure at this moment waits for this row, and deletes the delivery as well.
        SELECT * INTO v_event FROM memory_events
        WHERE id = p_event AND project_id = p_project_id FOR KEY SHARE;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    INSERT INTO memory_webhook_deliveries (webhook_id, event_id, project_id, user_id, due_at, created_at)
    VALUES (p_webhook_id, v_event.id, p_project_id, v_event.user_id, v_now, v_now)
    RETURNING id INTO v_delivery;
    INSERT INTO memory_jobs (project_id, user_id, job_type, payload, priority, run_at, fair_at, created_at)
    VALUES (p_project_id, '', 'deliver_webhook', jsonb_build_object('webhook_id', p_webhook_id), 10,
        v_now, v_now, v_now);
    RETURN v_delivery;
END $body$;

-- Jobs for webhooks with due deliveries that no job delivers: retries whose time has come, and what a
-- cleared queue left. At most one every 5 s for each webhook. Returns whether there are webhooks at
-- all, and how many jobs were made.
CREATE OR REPLACE FUNCTION prompt_memory_webhooks(p_now timestamptz)
RETURNS TABLE (present boolean, enqueued integer) LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_enqueued integer;
BEGIN
    IF NOT EXISTS (SELECT FROM memory_webhooks) THEN
        RETURN QUERY SELECT false, 0;
        RETURN;
    END IF;
    WITH due AS (
        UPDATE memory_webhooks AS w SET prompted_until = p_now + interval '5 s'
        WHERE w.id = ANY (ARRAY(
            SELECT h.id FROM memory_webhooks AS h
            WHERE h.disabled_at IS NULL AND coalesce(h.circuit_until, p_now) <= p_now
              AND coalesce(h.prompted_until, p_now) <= p_now
              AND (h.held_by IS NULL OR h.held_until <= p_now
                   OR NOT EXISTS (SELECT FROM memory_jobs AS j
                                  WHERE j.id = h.held_by AND j.status IN ('pending', 'processing')))
              AND EXISTS (SELECT FROM memory_webhook_deliveries AS d
                  WHERE d.webhook_id = h.id AND d.status = 'pending' AND d.due_at <= p_now)
            ORDER BY h.id FOR UPDATE SKIP LOCKED))
        RETURNING w.project_id, w.id
    )
    INSERT INTO memory_jobs (project_id, user_id, job_type, payload, priority, run_at, fair_at, created_at)
    SELECT d.project_id, '', 'deliver_webhook', jsonb_build_object('webhook_id', d.id), 10, p_now, p_now,
           p_now
    FROM due AS d;
    GET DIAGNOSTICS v_enqueued = ROW_COUNT;
    RETURN QUERY SELECT true, v_enqueued;
END $body$;

-- Write down how attempts ended, and what they say of the webhook. Arrays of one length describe pending
-- deliveries of one webhook: p_due_at is when to try again, NULL for never (delivered, or failed for
-- good). p_disabled_reason: no further attempts. Nothing is changed of deliveries that are gone.
CREATE OR REPLACE FUNCTION settle_memory_deliveries(
    p_webhook_id uuid, p_ids bigint[], p_delivered boolean[], p_due_at timestamptz[],
    p_response_status integer[], p_errors text[], p_now timestamptz,
    p_failures integer, p_failing_since timestamptz, p_circuit_until timestamptz, p_disabled_reason text
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $body$
BEGIN
    UPDATE memory_webhook_deliveries AS d
    SET status = CASE WHEN i.delivered THEN 'delivered'
                      WHEN i.due_at IS NULL THEN 'failed' ELSE 'pending' END,
        attempts = d.attempts + 1, due_at = coalesce(i.due_at, d.due_at), attempted_at = p_now,
        response_status = i.response_status, error = i.error,
        delivered_at = CASE WHEN i.delivered THEN p_now END
    FROM unnest(p_ids, p_delivered, p_due_at, p_response_status, p_errors)
         AS i (id, delivered, due_at, response_status, error)
    WHERE d.id = i.id AND d.webhook_id = p_webhook_id AND d.status = 'pending';
    UPDATE memory_webhooks
    SET failures = p_failures, failing_since = p_failing_since, circuit_until = p_circuit_until,
        last_success_at = CASE WHEN true = ANY (p_delivered) THEN p_now ELSE last_success_at END,
        disabled_at = CASE WHEN p_disabled_reason IS NULL THEN disabled_at
                           ELSE coalesce(disabled_at, p_now) END,
        disabled_reason = coalesce(disabled_reason, p_disabled_reason)
    WHERE id = p_webhook_id;
END $body$;

-- Give committed events without one their place in the stream, in batches, one caller at a time. A
-- reader that has seen a place has seen all before it.
CREATE OR REPLACE FUNCTION place_memory_events(p_limit integer)
RETURNS integer LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
BEGIN
    IF NOT EXISTS (SELECT FROM memory_events WHERE position IS NULL) THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('place_memory_events'));
    v_ids := ARRAY(SELECT id FROM memory_events WHERE position IS NULL ORDER BY id LIMIT p_limit
                   FOR UPDATE SKIP LOCKED);
    UPDATE memory_events AS e SET position = i.position
    FROM (SELECT u.id, nextval('memory_event_positions') AS position
          FROM (SELECT x.id FROM unnest(v_ids) AS x (id) ORDER BY x.id) AS u) AS i
    WHERE e.id = i.id;
    RETURN cardinality(v_ids);
END $body$;

-- Record the events of a project for readers of its stream from now on, or keep doing so. Returns up to
-- which position events may be missing.
CREATE OR REPLACE FUNCTION subscribe_memory_events(p_project_id text, p_now timestamptz)
RETURNS bigint LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_gone_until bigint;
BEGIN
    -- Almost always there: readers ask again and again.
    SELECT gone_until INTO v_gone_until FROM memory_event_streams
    WHERE project_id = p_project_id AND read_at > p_now - interval '1 hour';
    IF FOUND THEN
        RETURN v_gone_until;
    END IF;
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END INTO v_gone_until FROM memory_event_positions;
    INSERT INTO memory_event_streams AS s (project_id, read_at, gone_until)
    VALUES (p_project_id, p_now, v_gone_until)
    ON CONFLICT (project_id) DO UPDATE SET read_at = excluded.read_at
    RETURNING gone_until INTO v_gone_until;
    RETURN v_gone_until;
END $body$;

-- Delete events of before p_before with their deliveries, oldest first, at most p_limit; those that
-- still have a pending delivery stay. Returns how many.
CREATE OR REPLACE FUNCTION prune_memory_events(p_before timestamptz, p_limit integer DEFAULT 1000)
RETURNS integer LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
BEGIN
    -- A bounded look at the oldest ones, which are the first by id.
    v_ids := ARRAY(SELECT o.id
        FROM (SELECT id, created_at FROM memory_events ORDER BY id LIMIT p_limit) AS o
        WHERE o.created_at < p_before
          AND NOT EXISTS (SELECT FROM memory_webhook_deliveries AS d
                          JOIN memory_webhooks AS w ON w.id = d.webhook_id AND w.disabled_at IS NULL
                          WHERE d.event_id = o.id AND d.status = 'pending'));
    -- In the order of an erasure.
    WITH gone AS (
        DELETE FROM memory_events WHERE id = ANY (v_ids) RETURNING project_id, position
    )
    UPDATE memory_event_streams AS s SET gone_until = g.position
    FROM (SELECT project_id, max(position) AS position FROM gone GROUP BY project_id) AS g
    WHERE s.project_id = g.project_id AND g.position > s.gone_until;
    DELETE FROM memory_webhook_deliveries WHERE event_id = ANY (v_ids);
    DELETE FROM memory_event_streams WHERE read_at < p_before;
    RETURN cardinality(v_ids);
END $body$;

-- History of the service's numbers ----------------------------------------------------------------

-- Add what one process counted since its last call to the current minute and hour, by this server's clock: the
-- clocks of processes differ. Counts add up, of states the highest is kept. True for the process that began the
-- minute: it alone adds the states, which are those of the whole installation. Beginning a minute also deletes
-- what is older than a day, or 30 days for hours, so there are never more rows than 1,441 and 721.
CREATE OR REPLACE FUNCTION add_memory_history(
    p_sums jsonb, p_peaks jsonb, p_now timestamptz DEFAULT clock_timestamp()
) RETURNS boolean LANGUAGE plpgsql AS $body$
DECLARE
    v_resolution text;
    v_began boolean;
    v_began_minute boolean;
BEGIN
    FOREACH v_resolution IN ARRAY ARRAY['minute', 'hour'] LOOP
        INSERT INTO memory_history AS h (resolution, at, sums, peaks)
        VALUES (v_resolution, date_trunc(v_resolution, p_now, 'UTC'), p_sums, p_peaks)
        ON CONFLICT (resolution, at) DO UPDATE SET
            sums = h.sums || coalesce((
                SELECT jsonb_object_agg(e.key, coalesce((h.sums ->> e.key)::numeric, 0) + e.value::numeric)
                FROM jsonb_each_text(excluded.sums) AS e), '{}'),
            peaks = h.peaks || coalesce((
                SELECT jsonb_object_agg(e.key, greatest((h.peaks ->> e.key)::numeric, e.value::numeric))
                FROM jsonb_each_text(excluded.peaks) AS e), '{}')
        RETURNING xmax = 0 INTO v_began;
        v_began_minute := coalesce(v_began_minute, v_began);
    END LOOP;
    IF v_began_minute THEN
        DELETE FROM memory_history
        WHERE (resolution = 'minute' AND at < p_now - interval '1 day' - interval '1 minute')
           OR (resolution = 'hour' AND at < p_now - interval '30 days' - interval '1 hour');
    END IF;
    RETURN v_began_minute;
END $body$;


-- Accept blocks: user rows, blocks, passages and jobs in one statement of the caller.
--
-- p_blocks: an array of objects with the columns of memory_block_input, the only list of the fields a client may
-- send for a block; unknown keys are ignored and missing ones are NULL, so that versions before and after a
-- new field can both call this. p_passage_* describe the passages, p_passage_item being the 1-based
-- position of the block. Returns one row per block, in order:
--   created         false when the same idempotency key or external id was accepted before, or an equal block
--   same_request    false when that earlier request had the same idempotency key and differed
--   repeats         the status of the stored block that this one repeats; `block_id` is that one, and it is counted
-- Locks the users' rows first, in order, so that requests with one key cannot pass each other and
-- two statements cannot deadlock. With p_claimed_by the jobs are created already claimed by that worker.
-- p_traceparents: of the requests, one per block or NULL, for the traces of the jobs.
-- p_repeats_since: an equal block (all fields but the time and the key) without an external id that occurred
-- between this and the block's own time is the same block sent again. NULL: never. A failed or superseded
-- block is never repeated: an equal new block is stored.
CREATE OR REPLACE FUNCTION ingest_memory_blocks(
    p_blocks jsonb,
    p_passage_item integer[], p_passage_ordinal integer[], p_passage_start integer[],
    p_passage_stop integer[], p_passage_lexemes sparsevec[],
    p_max_attempts integer, p_fair_step interval,
    p_claimed_by text DEFAULT NULL, p_lease interval DEFAULT NULL, p_traceparents text[] DEFAULT NULL,
    p_repeats_since timestamptz[] DEFAULT NULL
) RETURNS TABLE (block_id uuid, job_id bigint, created boolean, same_request boolean,
                 repeats text)
-- A user's row locked by another transaction must not delay the other users of the statement: their
-- items run again without it.
LANGUAGE plpgsql SET lock_timeout = '250ms' AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_blocks memory_block_input[] := ARRAY(
        SELECT b FROM jsonb_populate_recordset(NULL::memory_block_input, p_blocks) AS b);
    -- Two blocks of equal content_hash are the same if all fields but these are equal.
    v_not_compared text[] := ARRAY['id', 'content', 'occurred_at', 'utc_offset_minutes', 'idempotency_key', 'request_hash',
        'job_id', 'created_at', 'updated_at', 'ordinality', 'n', 'since'];
    v_items integer[];
    v_jobs bigint[];
    v_keyed boolean := EXISTS (
        SELECT FROM unnest(v_blocks) AS b WHERE coalesce(b.idempotency_key, b.external_id) IS NOT NULL);
    v_fresh integer[];
    v_repeats integer[];  -- items that are sent again, and the blocks that they are
    v_same uuid[];
    v_n integer;
    v_id uuid;
    v_job_id bigint;
    v_status text;
    v_head timestamptz := memory_queue_place(v_now);
    v_place timestamptz[];
    v_touched record;
    v_new memory_block_input[];  -- the blocks that are stored, in the order of v_items
BEGIN
    WITH touched AS (
        INSERT INTO memory_users AS u (project_id, user_id, version, last_ingest_at, active_hour, fair_at)
        SELECT s.project_id, s.user_id, memory_next_version(0, v_now), v_now,
               date_trunc('hour', v_now, 'UTC'), v_head + p_fair_step * s.items
        FROM (SELECT i.project_id, i.user_id, count(*) AS items FROM unnest(v_blocks) AS i
              GROUP BY i.project_id, i.user_id ORDER BY i.project_id, i.user_id) AS s
        ON CONFLICT (project_id, user_id) DO UPDATE
        SET version = memory_next_version(u.version, v_now), previous = u.version,
            last_ingest_at = v_now, active_hour = excluded.active_hour,
            fair_at = memory_later(greatest(v_head, u.fair_at), excluded.fair_at - v_head)
        RETURNING u.project_id, u.user_id, u.fair_at, u.version, u.previous
    )
    SELECT array_agg(t.project_id) AS projects, array_agg(t.user_id) AS users, array_agg(t.fair_at) AS places,
           array_agg(t.version) AS versions, array_agg(t.previous) AS previous
    INTO v_touched FROM touched AS t;
    WITH logged AS (
        -- All ids: one that turns out to be stored already costs nothing.
        INSERT INTO memory_changes (project_id, user_id, version, previous, block_ids, has_items)
        SELECT t.project_id, t.user_id, t.version, t.previous, array_agg(i.id), true
        FROM unnest(v_touched.projects, v_touched.users, v_touched.versions, v_touched.previous)
             AS t (project_id, user_id, version, previous)
        JOIN unnest(v_blocks) AS i ON i.project_id = t.project_id AND i.user_id = t.user_id
        GROUP BY t.project_id, t.user_id, t.version, t.previous
    )
    -- The user's place in virtual time after this statement, one entry per item.
    SELECT array_agg(t.fair_at - p_fair_step * (i.items - i.turn) ORDER BY i.n) INTO v_place
    FROM (SELECT x.*, row_number() OVER (PARTITION BY x.project_id, x.user_id ORDER BY x.n) AS turn,
                 count(*) OVER (PARTITION BY x.project_id, x.user_id) AS items
          FROM (SELECT b.project_id, b.user_id, b.ordinality AS n
                FROM unnest(v_blocks) WITH ORDINALITY AS b) AS x) AS i
    JOIN unnest(v_touched.projects, v_touched.users, v_touched.places) AS t (project_id, user_id, fair_at)
      ON t.project_id = i.project_id AND t.user_id = i.user_id;

    IF v_keyed THEN
        -- First of its key here, and no stored block has it. The lock above makes this check final.
        SELECT array_agg(i.n ORDER BY i.n) INTO v_fresh
        FROM (SELECT x.*,
                     row_number() OVER (PARTITION BY x.project_id, x.user_id, x.idempotency_key ORDER BY x.n) AS key_turn,
                     row_number() OVER (PARTITION BY x.project_id, x.user_id, x.external_id ORDER BY x.n) AS external_turn
              FROM (SELECT b.*, b.ordinality AS n FROM unnest(v_blocks) WITH ORDINALITY AS b) AS x) AS i
        WHERE (i.idempotency_key IS NULL OR i.key_turn = 1)
          AND (i.external_id IS NULL OR i.external_turn = 1)
          AND NOT EXISTS (SELECT FROM memory_blocks AS b
                          WHERE b.project_id = i.project_id AND b.user_id = i.user_id
                            AND b.idempotency_key = i.idempotency_key)
          AND NOT EXISTS (SELECT FROM memory_blocks AS b
                          WHERE b.project_id = i.project_id AND b.user_id = i.user_id
                            AND b.external_id = i.external_id)
          AND NOT EXISTS (SELECT FROM memory_idempotency AS k
                          WHERE k.project_id = i.project_id AND k.user_id = i.user_id
                            AND k.idempotency_key = i.idempotency_key);
    ELSE
        v_fresh := ARRAY(SELECT generate_series(1, cardinality(v_blocks)));
    END IF;

    IF p_repeats_since IS NOT NULL THEN
        -- Equal blocks that are stored already, each the first of its kind. Final for the same reason.
        SELECT array_agg(i.n ORDER BY i.n), array_agg(b.id ORDER BY i.n) INTO v_repeats, v_same
        FROM (SELECT x.*, x.ordinality AS n, p_repeats_since[x.ordinality] AS since
              FROM unnest(v_blocks) WITH ORDINALITY AS x) AS i
        CROSS JOIN LATERAL (
            SELECT m.id FROM memory_blocks AS m
            -- The expression of the index memory_blocks_said; the comparison of the scope must not be usable by
            -- an index, or the primary key would be chosen without statistics.
            WHERE m.content_hash = i.content_hash AND m.external_id IS NULL
              AND hashtextextended(m.user_id, hashtextextended(m.project_id, 0))
                  = hashtextextended(i.user_id, hashtextextended(i.project_id, 0))
              AND (m.project_id, m.user_id) IS NOT DISTINCT FROM (i.project_id, i.user_id)
              AND m.occurred_at BETWEEN i.since AND i.occurred_at
              AND m.status <> 'failed' AND m.superseded_at IS NULL AND m.job_id IS NOT NULL
              -- Equal in all fields a client may send, including fields added later.
              AND NOT EXISTS (
                  SELECT FROM jsonb_each(to_jsonb(i) - v_not_compared) AS f
                  WHERE f.value IS DISTINCT FROM to_jsonb(m) -> f.key)
            ORDER BY m.created_at, m.id LIMIT 1) AS b
        WHERE i.external_id IS NULL AND (NOT v_keyed OR i.n = ANY (v_fresh));
        IF cardinality(v_blocks) > 1 THEN
            -- Items equal to an earlier item.
            SELECT nullif(coalesce(v_repeats, '{}') || array_agg(i.n::integer ORDER BY i.n), '{}'),
                   coalesce(v_same, '{}') || array_agg((v_blocks[i.first_n]).id ORDER BY i.n)
            INTO v_repeats, v_same
            FROM (SELECT x.n, min(x.n) OVER (PARTITION BY x.project_id, x.user_id, x.content_hash, x.compared,
                             CASE WHEN x.since = x.occurred_at THEN x.since END) AS first_n
                  FROM (SELECT b.*, b.ordinality AS n, p_repeats_since[b.ordinality] AS since,
                               -- Computed only if there is something to compare.
                               CASE WHEN count(*) OVER (PARTITION BY b.content_hash) > 1
                                    THEN to_jsonb(b) - v_not_compared END AS compared
                        FROM unnest(v_blocks) WITH ORDINALITY AS b) AS x
                  WHERE x.external_id IS NULL AND x.since IS NOT NULL AND x.n = ANY (v_fresh)
                    AND x.n <> ALL (coalesce(v_repeats, '{}'))) AS i
            WHERE i.first_n < i.n;
        END IF;
    END IF;

    SELECT array_agg(i.n), array_agg(i.block), array_agg((i.block).job_id) INTO v_items, v_new, v_jobs
    FROM (SELECT n, jsonb_populate_record(v_blocks[n], jsonb_build_object('created_at', v_now,
                     'updated_at', v_now, 'job_id', nextval('memory_jobs_id_seq'))) AS block
          FROM unnest(v_fresh) AS n
          WHERE v_repeats IS NULL OR n <> ALL (v_repeats) OFFSET 0) AS i;
    WITH block AS (
        -- The view's columns by their order; the table's other columns have defaults.
        INSERT INTO memory_block_input SELECT b.* FROM unnest(v_new) AS b
    ), passage AS (
        INSERT INTO memory_passages (project_id, user_id, block_id, ordinal, start_at, stop_at,
            session_id, occurred_at, expires_at, speaker_key, lexemes)
        SELECT b.project_id, b.user_id, b.id, p.ordinal, p.start_at, p.stop_at,
               b.session_id, coalesce(b.occurred_at, v_now), b.expires_at,
               memory_speaker_key(b.speaker), p.lexemes
        FROM unnest(p_passage_item, p_passage_ordinal, p_passage_start, p_passage_stop,
                    p_passage_lexemes) AS p (n, ordinal, start_at, stop_at, lexemes)
        JOIN unnest(v_items) WITH ORDINALITY AS i (n, at) ON i.n = p.n
        JOIN unnest(v_new) WITH ORDINALITY AS b ON b.ordinality = i.at
    )
    INSERT INTO memory_jobs (id, project_id, user_id, block_id, job_type, max_attempts,
        run_at, fair_at, created_at, status, attempts, locked_by, locked_until, started_at, payload)
    SELECT b.job_id, b.project_id, b.user_id, b.id,
           'enrich_and_embed', p_max_attempts, v_now, v_place[i.n], v_now,
           CASE WHEN p_claimed_by IS NULL THEN 'pending' ELSE 'processing' END,
           CASE WHEN p_claimed_by IS NULL THEN 0 ELSE 1 END,
           p_claimed_by, v_now + p_lease,
           CASE WHEN p_claimed_by IS NOT NULL THEN v_now END,
           CASE WHEN p_traceparents[i.n] IS NULL THEN '{}'
                ELSE jsonb_build_object('traceparent', p_traceparents[i.n]) END
    FROM unnest(v_items) WITH ORDINALITY AS i (n, at)
    JOIN unnest(v_new) WITH ORDINALITY AS b ON b.ordinality = i.at;

    IF v_repeats IS NOT NULL THEN
        -- One by one: joined to an array, a small table would be read completely.
        FOR v_n, v_id IN SELECT x.n, x.id FROM unnest(v_repeats, v_same) AS x (n, id) LOOP
            UPDATE memory_blocks SET repeat_count = repeat_count + 1
            WHERE project_id = (v_blocks[v_n]).project_id AND user_id = (v_blocks[v_n]).user_id
              AND id = v_id
            RETURNING memory_blocks.job_id, memory_blocks.status INTO v_job_id, v_status;
            -- Its key is used as well: a late repetition gets this response, whatever happened to the block since.
            IF (v_blocks[v_n]).idempotency_key IS NOT NULL THEN
                INSERT INTO memory_idempotency (project_id, user_id, idempotency_key, operation,
                    request_hash, block_id, job_id, block_status, created_at)
                VALUES ((v_blocks[v_n]).project_id, (v_blocks[v_n]).user_id,
                    (v_blocks[v_n]).idempotency_key, 'POST /blocks', (v_blocks[v_n]).request_hash,
                    v_id, v_job_id, v_status, v_now)
                ON CONFLICT DO NOTHING;
            END IF;
        END LOOP;
    ELSIF NOT v_keyed THEN
        RETURN QUERY SELECT i.id, j.job_id, true, true, NULL::text
        FROM unnest(v_blocks) WITH ORDINALITY AS i
        JOIN unnest(v_items, v_jobs) AS j (n, job_id) ON j.n = i.ordinality ORDER BY i.ordinality;
        RETURN;
    END IF;

    -- A block found by its external id may have another key, or none: that key is not reused.
    RETURN QUERY SELECT b.id, b.job_id, b.id = i.id,
        b.idempotency_key IS DISTINCT FROM i.idempotency_key
            OR b.request_hash IS NOT DISTINCT FROM i.request_hash,
        b.repeats
    FROM unnest(v_blocks) WITH ORDINALITY AS i
    LEFT JOIN LATERAL (
        SELECT m.id, m.job_id, m.request_hash, m.idempotency_key, NULL AS repeats
        FROM memory_blocks AS m
        WHERE m.project_id = i.project_id AND m.user_id = i.user_id AND m.id = i.id
        UNION ALL
        SELECT m.id, m.job_id, m.request_hash, m.idempotency_key, NULL
        FROM memory_blocks AS m
        WHERE m.project_id = i.project_id AND m.user_id = i.user_id
          AND m.idempotency_key = i.idempotency_key
        UNION ALL
        SELECT m.id, m.job_id, m.request_hash, m.idempotency_key, NULL
        FROM memory_blocks AS m
        WHERE m.project_id = i.project_id AND m.user_id = i.user_id
          AND m.external_id = i.external_id
        UNION ALL
        SELECT m.id, m.job_id, NULL, NULL, m.status FROM memory_blocks AS m
        WHERE m.project_id = i.project_id AND m.user_id = i.user_id
          AND m.id = v_same[array_position(v_repeats, i.ordinality::integer)]
        UNION ALL
        -- A block that was deleted, or another write with this key.
        SELECT k.block_id, k.job_id, k.request_hash, k.idempotency_key, k.block_status
        FROM memory_idempotency AS k
        WHERE k.project_id = i.project_id AND k.user_id = i.user_id
          AND k.idempotency_key = i.idempotency_key
        LIMIT 1
    ) AS b ON true
    ORDER BY i.ordinality;
END $body$;

-- As versions before 0015 call it: one array per column.
CREATE OR REPLACE FUNCTION ingest_memory_blocks(
    p_ids uuid[], p_project_ids text[], p_user_ids text[], p_contents text[],
    p_agent_ids text[], p_session_ids text[], p_speakers text[], p_sources text[],
    p_external_ids text[], p_metadata jsonb[], p_occurred_at timestamptz[],
    p_expires_at timestamptz[], p_idempotency_keys text[], p_content_hashes bytea[],
    p_request_hashes bytea[],
    p_passage_item integer[], p_passage_ordinal integer[], p_passage_start integer[],
    p_passage_stop integer[], p_passage_lexemes sparsevec[],
    p_max_attempts integer, p_fair_step interval,
    p_claimed_by text DEFAULT NULL, p_lease interval DEFAULT NULL, p_traceparents text[] DEFAULT NULL,
    p_repeats_since timestamptz[] DEFAULT NULL
) RETURNS TABLE (block_id uuid, job_id bigint, created boolean, same_request boolean,
                 repeats text)
LANGUAGE sql AS $body$
    SELECT * FROM ingest_memory_blocks((
        SELECT jsonb_agg(to_jsonb(x) ORDER BY x.n)
        FROM unnest(p_ids, p_project_ids, p_user_ids, p_contents, p_agent_ids, p_session_ids,
                    p_speakers, p_sources, p_external_ids, p_metadata, p_occurred_at, p_expires_at,
                    p_idempotency_keys, p_content_hashes, p_request_hashes)
             WITH ORDINALITY AS x (id, project_id, user_id, content, agent_id, session_id, speaker,
                    source, external_id, metadata, occurred_at, expires_at, idempotency_key,
                    content_hash, request_hash, n)),
        p_passage_item, p_passage_ordinal, p_passage_start, p_passage_stop, p_passage_lexemes,
        p_max_attempts, p_fair_step, p_claimed_by, p_lease, p_traceparents, p_repeats_since)
$body$;

-- Items: blocks that are written and read by a name. See 0019_items.

-- Carry out operations on items, in order; one row for each, in order.
--
-- p_ops: an array of objects.
--   project_id, user_id  whose
--   op                   'put' or 'delete'
--   name_id              the name's digest, as the index memory_blocks_item has it
--   if_absent            true: only where there is no such item
--   if_id, if_revision   only where the item is still that one: '' and 0 fit none, 'any' and NULL any
--   request_key, request_hash   the operation was sent with an idempotency key: repeated, it gets its first
--                        outcome again. Only operations with a condition need one.
--   of 'put': id (of a new item), namespace, key, value, content (the text that is searched), ttl_seconds,
--   refresh_on_read, changed_by
-- p_passage_* describe the passages of the contents, p_passage_item being the 1-based position in p_ops.
-- Outcomes: created, replaced, deleted; missing (delete found nothing), exists and stale (the condition
-- did not hold), reused (the idempotency key came with another request).
--
-- The users' rows are locked first, in order, until the transaction ends: that makes positions rise in the
-- order of commits, and a condition final. At most 1,000 operations a user.
CREATE OR REPLACE FUNCTION write_memory_items(
    p_ops jsonb,
    p_passage_item integer[], p_passage_ordinal integer[], p_passage_start integer[],
    p_passage_stop integer[], p_passage_lexemes sparsevec[],
    p_max_attempts integer, p_fair_step interval
) RETURNS TABLE (outcome text, item_id uuid, item_revision integer, created timestamptz, updated timestamptz,
                 expires timestamptz)
LANGUAGE plpgsql SET lock_timeout = '250ms'
-- Planning each statement anew takes a fifth of a put; all of them read by keys.
SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_head timestamptz := memory_queue_place(v_now);
    v_place timestamptz[];
    v_positions bigint[];
    v_projects text[];  -- one an operation, as are the next two
    v_users text[];
    v_previous bigint[];
    v_changed uuid[] := '{}';  -- items whose passages change, and the operations that change them
    v_changed_ops bigint[] := '{}';
    v_locked uuid[];  -- blocks whose pending job is locked here: it will read what is written now
    v_op jsonb;
    v_n bigint;
    v_old memory_blocks;
    v_new boolean;  -- whether the text is another one
    v_value boolean;  -- whether the value is
    v_job bigint;
    v_expires timestamptz;
    v_stored record;
    v_namespace text[];
    v_text_blocks uuid[] := '{}';  -- blocks whose passages are to be stored, and the operations they come from
    v_text_ops bigint[] := '{}';
    v_job_blocks uuid[] := '{}';  -- blocks that need a job, its id, and the operation
    v_job_ids bigint[] := '{}';
    v_job_ops bigint[] := '{}';
BEGIN
    v_locked := ARRAY(
        SELECT j.block_id FROM jsonb_array_elements(p_ops) AS o (op)
        CROSS JOIN LATERAL (SELECT b.id FROM memory_blocks AS b
            -- The expression of the index memory_blocks_item_name: without statistics, any index that begins
            -- with the scope would be chosen.
            WHERE hashtextextended(b.user_id, hashtextextended(b.project_id, 0))
                  = hashtextextended(o.op ->> 'user_id', hashtextextended(o.op ->> 'project_id', 0))
              AND b.name_id = (o.op ->> 'name_id')::uuid AND b.key IS NOT NULL
              AND (b.project_id, b.user_id) IS NOT DISTINCT FROM (o.op ->> 'project_id', o.op ->> 'user_id')
            OFFSET 0) AS b
        JOIN memory_jobs AS j ON j.block_id = b.id AND j.status = 'pending'
            AND j.job_type = 'enrich_and_embed'
            AND j.project_id = o.op ->> 'project_id' AND j.user_id = o.op ->> 'user_id'
        WHERE o.op ->> 'op' = 'put'
        FOR UPDATE OF j SKIP LOCKED);

    WITH touched AS (
        INSERT INTO memory_users AS u (project_id, user_id, version, last_ingest_at, active_hour, fair_at)
        SELECT s.project_id, s.user_id, memory_next_version(0, v_now), v_now,
               date_trunc('hour', v_now, 'UTC'), v_head + p_fair_step * s.items
        FROM (SELECT o.op ->> 'project_id' AS project_id, o.op ->> 'user_id' AS user_id, count(*) AS items
              FROM jsonb_array_elements(p_ops) AS o (op) GROUP BY 1, 2 ORDER BY 1, 2) AS s
        ON CONFLICT (project_id, user_id) DO UPDATE
        SET version = memory_next_version(u.version, v_now), previous = u.version,
            last_ingest_at = v_now, active_hour = excluded.active_hour,
            fair_at = memory_later(greatest(v_head, u.fair_at), excluded.fair_at - v_head)
        RETURNING u.project_id, u.user_id, u.fair_at, u.version, u.previous
    )
    SELECT array_agg(t.fair_at - p_fair_step * (o.items - o.turn) ORDER BY o.n),
           -- Versions are microseconds and never come twice.
           array_agg(t.version * 1000 + o.turn - 1 ORDER BY o.n),
           array_agg(t.project_id ORDER BY o.n), array_agg(t.user_id ORDER BY o.n),
           array_agg(t.previous ORDER BY o.n)
    INTO v_place, v_positions, v_projects, v_users, v_previous
    FROM (SELECT x.*, row_number() OVER (PARTITION BY x.project_id, x.user_id ORDER BY x.n) AS turn,
                 count(*) OVER (PARTITION BY x.project_id, x.user_id) AS items
          FROM (SELECT o.op ->> 'project_id' AS project_id, o.op ->> 'user_id' AS user_id, o.n
                FROM jsonb_array_elements(p_ops) WITH ORDINALITY AS o (op, n)) AS x) AS o
    JOIN touched AS t USING (project_id, user_id);
    -- After the lock: what another transaction wrote until then happened before.
    v_now := clock_timestamp();

    FOR v_op, v_n IN SELECT o.op, o.n FROM jsonb_array_elements(p_ops) WITH ORDINALITY AS o (op, n) LOOP
        outcome := NULL; item_id := NULL; item_revision := NULL; created := NULL; updated := NULL;
        expires := NULL;
        IF v_op ? 'request_key' THEN
            SELECT k.request_hash, k.body::jsonb AS stored_body INTO v_stored FROM memory_idempotency AS k
            WHERE k.project_id = v_op ->> 'project_id' AND k.user_id = v_op ->> 'user_id'
              AND k.idempotency_key = v_op ->> 'request_key';
            IF FOUND THEN
                outcome := 'reused';
                IF v_stored.request_hash = (v_op ->> 'request_hash')::bytea THEN
                    outcome := v_stored.stored_body ->> 'outcome';
                    item_id := (v_stored.stored_body ->> 'id')::uuid;
                    item_revision := (v_stored.stored_body ->> 'revision')::integer;
                    created := (v_stored.stored_body ->> 'created')::timestamptz;
                    updated := (v_stored.stored_body ->> 'updated')::timestamptz;
                    expires := (v_stored.stored_body ->> 'expires')::timestamptz;
                END IF;
                RETURN NEXT;
                CONTINUE;
            END IF;
        END IF;

        SELECT * INTO v_old FROM memory_blocks
        WHERE hashtextextended(user_id, hashtextextended(project_id, 0))
              = hashtextextended(v_op ->> 'user_id', hashtextextended(v_op ->> 'project_id', 0))
          AND name_id = (v_op ->> 'name_id')::uuid AND key IS NOT NULL
          AND (project_id, user_id) IS NOT DISTINCT FROM (v_op ->> 'project_id', v_op ->> 'user_id')
        FOR UPDATE;
        IF v_old.expires_at <= v_now THEN
            PERFORM drop_memory_item(v_old.project_id, v_old.user_id, v_old.id);
            v_changed := v_changed || v_old.id;
            v_changed_ops := v_changed_ops || v_n;
            v_old := NULL;
        END IF;
        IF v_old.id IS NOT NULL AND (v_op ->> 'if_absent')::boolean THEN
            outcome := 'exists';
        ELSIF v_op ? 'if_id' AND (v_old.id IS NULL OR NOT (v_op ->> 'if_id' = 'any'
                OR (v_op ->> 'if_id' = v_old.id::text
                    AND (v_op ->> 'if_revision')::integer = v_old.revision))) THEN
            outcome := 'stale';
        ELSIF v_op ->> 'op' = 'delete' THEN
            outcome := 'missing';
            IF v_old.id IS NOT NULL THEN
                outcome := 'deleted';
                PERFORM drop_memory_item(v_old.project_id, v_old.user_id, v_old.id);
                v_changed := v_changed || v_old.id;
                v_changed_ops := v_changed_ops || v_n;
                IF v_old.id = ANY (v_job_blocks) THEN
                    v_job_blocks[array_position(v_job_blocks, v_old.id)] := NULL;
                END IF;
            END IF;
        ELSE
            v_expires := v_now + (v_op ->> 'ttl_seconds')::double precision * interval '1 second';
            v_job := NULL;
            IF v_old.id IS NULL THEN
                outcome := 'created';
                item_id := (v_op ->> 'id')::uuid;
                item_revision := 1;
                created := v_now;
                IF v_op ->> 'content' <> '' THEN
                    v_job := nextval('memory_jobs_id_seq');
                    v_text_blocks := v_text_blocks || item_id;
                    v_text_ops := v_text_ops || v_n;
                    v_changed := v_changed || item_id;
                    v_changed_ops := v_changed_ops || v_n;
                END IF;
                v_namespace := ARRAY(SELECT jsonb_array_elements_text(v_op -> 'namespace'));
                INSERT INTO memory_blocks (id, project_id, user_id, content, namespace, key, value, name_id,
                    position, ttl_seconds, refresh_on_read, expires_at, created_at, updated_at, status,
                    job_id)
                VALUES (item_id, v_op ->> 'project_id', v_op ->> 'user_id', v_op ->> 'content',
                    v_namespace, v_op ->> 'key',
                    v_op -> 'value', (v_op ->> 'name_id')::uuid, v_positions[v_n],
                    (v_op ->> 'ttl_seconds')::double precision, (v_op ->> 'refresh_on_read')::boolean,
                    v_expires, v_now, v_now,
                    CASE WHEN v_job IS NULL THEN 'active' ELSE 'pending_enrichment' END, v_job);
            ELSE
                outcome := 'replaced';
                item_id := v_old.id;
                created := v_old.created_at;
                v_new := v_old.content <> v_op ->> 'content';
                v_value := v_old.value <> v_op -> 'value';
                item_revision := v_old.revision + CASE WHEN v_value OR v_new THEN 1 ELSE 0 END;
                IF item_revision > v_old.revision THEN
                    INSERT INTO memory_block_revisions (project_id, user_id, block_id, revision, reason,
                        changed_by, before, created_at)
                    VALUES (v_old.project_id, v_old.user_id, v_old.id, v_old.revision, 'edit',
                        v_op ->> 'changed_by',
                        jsonb_build_object('content', v_old.content, 'value', v_old.value,
                            'expires_at', v_old.expires_at), v_now);
                END IF;
                -- A job that runs has read an earlier revision, and its result will be dropped.
                IF v_op ->> 'content' <> '' AND v_old.id <> ALL (v_locked) AND v_old.id <> ALL (v_job_blocks)
                   AND (v_new OR (v_value AND (v_old.status = 'pending_enrichment'
                       OR EXISTS (SELECT FROM memory_jobs
                           WHERE block_id = v_old.id AND status = 'processing'
                             AND job_type = 'enrich_and_embed'
                             AND project_id = v_old.project_id AND user_id = v_old.user_id)))) THEN
                    v_job := nextval('memory_jobs_id_seq');
                END IF;
                UPDATE memory_blocks
                SET value = v_op -> 'value', content = v_op ->> 'content', revision = item_revision,
                    ttl_seconds = (v_op ->> 'ttl_seconds')::double precision,
                    refresh_on_read = (v_op ->> 'refresh_on_read')::boolean,
                    expires_at = v_expires, updated_at = v_now, job_id = coalesce(v_job, job_id),
                    status = CASE WHEN NOT v_new THEN status
                                  WHEN v_op ->> 'content' = '' THEN 'active'
                                  ELSE 'pending_enrichment' END,
                    error = CASE WHEN v_new THEN NULL ELSE error END,
                    backfill_steps = CASE WHEN v_new THEN NULL ELSE backfill_steps END,
                    backfill_at = CASE WHEN v_new THEN NULL ELSE backfill_at END
                WHERE project_id = v_old.project_id AND user_id = v_old.user_id AND id = v_old.id;
                IF v_new OR v_expires IS DISTINCT FROM v_old.expires_at THEN
                    v_changed := v_changed || v_old.id;
                    v_changed_ops := v_changed_ops || v_n;
                END IF;
                IF v_new THEN
                    DELETE FROM memory_passages WHERE project_id = v_old.project_id
                        AND user_id = v_old.user_id AND block_id = v_old.id;
                    -- Of an earlier operation here.
                    v_text_blocks := array_replace(v_text_blocks, v_old.id, NULL);
                    IF v_op ->> 'content' <> '' THEN
                        v_text_blocks := v_text_blocks || v_old.id;
                        v_text_ops := v_text_ops || v_n;
                    END IF;
                ELSIF v_expires IS DISTINCT FROM v_old.expires_at THEN
                    UPDATE memory_passages SET expires_at = v_expires WHERE project_id = v_old.project_id
                        AND user_id = v_old.user_id AND block_id = v_old.id;
                END IF;
            END IF;
            updated := v_now;
            expires := v_expires;
            IF v_job IS NOT NULL THEN
                v_job_blocks := v_job_blocks || item_id;
                v_job_ids := v_job_ids || v_job;
                v_job_ops := v_job_ops || v_n;
            END IF;
        END IF;

        IF v_op ? 'request_key' AND outcome IN ('created', 'replaced', 'deleted') THEN
            INSERT INTO memory_idempotency (project_id, user_id, idempotency_key, operation, request_hash,
                block_id, body, created_at)
            VALUES (v_op ->> 'project_id', v_op ->> 'user_id', v_op ->> 'request_key', 'items',
                (v_op ->> 'request_hash')::bytea, item_id,
                jsonb_build_object('outcome', outcome, 'id', item_id, 'revision', item_revision,
                    'created', created, 'updated', updated, 'expires', expires), v_now);
        END IF;
        RETURN NEXT;
    END LOOP;

    INSERT INTO memory_changes (project_id, user_id, version, previous, block_ids, has_items)
    SELECT o.project_id, o.user_id, o.position / 1000, o.previous,
           coalesce(array_agg(c.id) FILTER (WHERE c.id IS NOT NULL), '{}'), true
    FROM unnest(v_projects, v_users, v_positions, v_previous)
         WITH ORDINALITY AS o (project_id, user_id, position, previous, n)
    LEFT JOIN unnest(v_changed, v_changed_ops) AS c (id, n) USING (n)
    GROUP BY o.project_id, o.user_id, o.position / 1000, o.previous;
    IF v_text_blocks <> '{}' THEN
        INSERT INTO memory_passages (project_id, user_id, block_id, ordinal, start_at, stop_at,
            occurred_at, expires_at, lexemes, item)
        SELECT b.project_id, b.user_id, b.id, p.ordinal, p.start_at, p.stop_at, b.created_at, b.expires_at,
               p.lexemes, true
        FROM unnest(v_text_blocks, v_text_ops) AS t (id, n)
        JOIN unnest(p_passage_item, p_passage_ordinal, p_passage_start, p_passage_stop, p_passage_lexemes)
             AS p (n, ordinal, start_at, stop_at, lexemes) USING (n)
        CROSS JOIN LATERAL (SELECT * FROM memory_blocks AS m
            WHERE m.project_id = p_ops -> (t.n - 1)::integer ->> 'project_id'
              AND m.user_id = p_ops -> (t.n - 1)::integer ->> 'user_id' AND m.id = t.id OFFSET 0) AS b;
    END IF;
    IF v_job_blocks <> '{}' THEN
        INSERT INTO memory_jobs (id, project_id, user_id, block_id, job_type, max_attempts, run_at, fair_at,
            created_at)
        SELECT j.id, p_ops -> (j.n - 1)::integer ->> 'project_id', p_ops -> (j.n - 1)::integer ->> 'user_id',
               j.block_id, 'enrich_and_embed', p_max_attempts, v_now, v_place[j.n], v_now
        FROM unnest(v_job_blocks, v_job_ids, v_job_ops) AS j (block_id, id, n)
        WHERE j.block_id IS NOT NULL;
    END IF;
END $body$;

-- Delete an item with its history. A job that waits for it finds nothing and is done.
CREATE OR REPLACE FUNCTION drop_memory_item(p_project_id text, p_user_id text, p_block_id uuid)
RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    DELETE FROM memory_block_revisions
    WHERE project_id = p_project_id AND user_id = p_user_id AND block_id = p_block_id;
    DELETE FROM memory_passages
    WHERE project_id = p_project_id AND user_id = p_user_id AND block_id = p_block_id;
    DELETE FROM memory_blocks
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id;
END $body$;

-- Delete items that have expired, the earliest first, at most p_limit; they are invisible since then. Returns
-- how many.
CREATE OR REPLACE FUNCTION delete_expired_memory_items(p_limit integer)
RETURNS integer LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_item record;
    v_deleted integer := 0;
BEGIN
    FOR v_item IN SELECT project_id, user_id, id FROM memory_blocks
        WHERE key IS NOT NULL AND expires_at <= clock_timestamp()
        ORDER BY expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM drop_memory_item(v_item.project_id, v_item.user_id, v_item.id);
        v_deleted := v_deleted + 1;
    END LOOP;
    RETURN v_deleted;
END $body$;

-- Which partition has a user, and what a partition may hold.

-- The partition of a user among p_count of them. The first six bytes of SHA-256 over project, a zero byte and
-- user, as a number, modulo the count: as the service computes it (domain.partition).
CREATE OR REPLACE FUNCTION memory_partition_number(p_project_id text, p_user_id text, p_count integer)
RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT ((('x' || lpad(encode(substring(sha256(convert_to(p_project_id, 'UTF8') || '\x00'::bytea
        || convert_to(p_user_id, 'UTF8')) FOR 6), 'hex'), 16, '0'))::bit(64)::bigint) % p_count)::integer
$body$;

-- From now on, this partition holds only users that are its own: a process that knows another number of
-- partitions cannot store a user where no process looks for them. A check of each written row of memory_users,
-- about a microsecond. Repeating it changes nothing.
CREATE OR REPLACE FUNCTION restrict_memory_partition(p_number integer, p_count integer)
RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint
                   WHERE conrelid = 'memory_users'::regclass AND conname = 'memory_users_partition') THEN
        EXECUTE format('ALTER TABLE memory_users ADD CONSTRAINT memory_users_partition
            CHECK (memory_partition_number(project_id, user_id, %s) = %s)', p_count, p_number);
    END IF;
END $body$;

-- Whether this schema is placed on a node by Citus, and this session is at the coordinator.
CREATE OR REPLACE FUNCTION memory_is_distributed()
RETURNS boolean LANGUAGE plpgsql STABLE AS $body$
DECLARE
    v_found boolean;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        RETURN false;
    END IF;
    -- Not planned unless there is Citus.
    EXECUTE 'SELECT EXISTS (SELECT FROM citus_schemas WHERE schema_name = quote_ident(current_schema())::regnamespace)
             AND (SELECT groupid = 0 FROM pg_dist_local_group)' INTO v_found;
    RETURN v_found;
END $body$;

-- Where Citus has placed this schema: make each function run on the node that has it, called there with names that
-- lead to this schema (the search_path of a session stays at the coordinator). Elsewhere it does nothing. Every
-- migration ends with it, as it defines the functions again.
CREATE OR REPLACE FUNCTION settle_memory_functions()
RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    v_function regprocedure;
    v_path text;
BEGIN
    IF NOT memory_is_distributed() THEN
        RETURN;
    END IF;
    SELECT concat_ws(', ', quote_ident(current_schema()), quote_ident(n.nspname)) INTO v_path
    FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'vector';
    FOR v_function IN
        SELECT p.oid::regprocedure FROM pg_proc AS p
        -- Immutable ones name no table, and the planner puts the body of those in SQL in place of the call.
        WHERE p.pronamespace = quote_ident(current_schema())::regnamespace AND p.provolatile <> 'i'
          -- These work at the coordinator.
          AND p.proname NOT IN ('memory_is_distributed', 'settle_memory_functions', 'begin_memory_ids',
                                'restrict_memory_partition')
    LOOP
        -- Some are called by a statement that reads tables as well: Citus then fears that a function reads tables of other
        -- nodes, which those of one schema cannot be.
        EXECUTE format('ALTER FUNCTION %s SET search_path = %s SET citus.allow_nested_distributed_execution = on
                RESET plan_cache_mode', v_function, v_path);
        EXECUTE format('SELECT create_distributed_function(%L::regprocedure, colocate_with := %L)',
            v_function::text, format('%I.memory_users', current_schema()));
    END LOOP;
END $body$;

-- New jobs, deliveries, events and revisions of this partition have ids from p_first on: unique among all
-- partitions. Where Citus has placed the schema, each node takes numbers of its own, and has 2^36 of them here: the
-- range that Citus gives a node would begin with the same number in every schema. To be repeated after a node was added.
CREATE OR REPLACE FUNCTION begin_memory_ids(p_first bigint)
RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    v_sequence text;
    v_last bigint;
    v_failed text;
BEGIN
    FOREACH v_sequence IN ARRAY ARRAY['memory_jobs_id_seq', 'memory_webhook_deliveries_id_seq',
                                      'memory_events_id_seq', 'memory_block_revisions_id_seq'] LOOP
        EXECUTE format('SELECT last_value FROM %I', v_sequence) INTO v_last;
        IF v_last < p_first THEN
            PERFORM setval(v_sequence::regclass, p_first, false);
        END IF;
        CONTINUE WHEN NOT memory_is_distributed();
        EXECUTE 'SELECT max(result) FROM run_command_on_all_nodes($1) WHERE NOT success' INTO v_failed
        USING format($command$DO $$
            DECLARE
                v_first bigint := %3$s + ((SELECT groupid FROM pg_dist_local_group)::bigint << 36);
                v_used bigint;
            BEGIN
                PERFORM set_config('citus.enable_ddl_propagation', 'off', true);
                -- Numbers of this node are in use if Citus has set the sequence back, or a backup was restored. They
                -- are read before the sequence, which continues meanwhile.
                SELECT greatest(v_first - 1, max(id)) INTO v_used FROM %2$s
                WHERE id BETWEEN v_first AND v_first + (1::bigint << 36) - 2;
                IF (SELECT seqmin FROM pg_sequence WHERE seqrelid = %1$L::regclass) <> v_first
                    OR (SELECT last_value + is_called::integer FROM %1$s) <= v_used THEN
                    EXECUTE format('ALTER SEQUENCE %1$s MINVALUE %%s MAXVALUE %%s START %%s RESTART %%s',
                        v_first, v_first + (1::bigint << 36) - 2, v_first, v_used + 1);
                END IF;
            END $$$command$,
            format('%I.%I', current_schema(), v_sequence),
            format('%I.%I', current_schema(), substring(v_sequence FROM '(.*)_id_seq')), p_first);
        IF v_failed IS NOT NULL THEN
            RAISE EXCEPTION 'A node of Citus could not prepare the sequence %: %', v_sequence, v_failed;
        END IF;
    END LOOP;
END $body$;

-- Whether this partition still has each of these users, and whether none of them is being moved at this moment.
-- A transaction that moves a user holds the lock of the user until its end: one that is committed before the
-- lock is free is seen by the second statement.
CREATE OR REPLACE FUNCTION memory_users_here(p_projects text[], p_users text[])
RETURNS TABLE (is_here boolean, is_free boolean) LANGUAGE plpgsql VOLATILE AS $body$
DECLARE
    v_free boolean[];
BEGIN
    v_free := ARRAY(SELECT pg_try_advisory_xact_lock_shared(hashtextextended(u.p || chr(1) || u.u, 31))
        FROM unnest(p_projects, p_users) WITH ORDINALITY AS u (p, u, n) ORDER BY u.n);
    RETURN QUERY SELECT EXISTS (SELECT FROM memory_partition_users AS m
                                WHERE m.project_id = u.p AND m.user_id = u.u), v_free[u.n]
        FROM unnest(p_projects, p_users) WITH ORDINALITY AS u (p, u, n) ORDER BY u.n;
END $body$;

-- The shared state of the model providers, and pending backfills of blocks.

-- May this provider be called? One row: state 'closed' means yes, and so does `is_probe`: this caller
-- alone probes a circuit whose time is over, and should note the outcome within p_probe.
-- `failures` is the number before this call (a success should be noted if it is not 0).
CREATE OR REPLACE FUNCTION enter_memory_circuit(p_name text, p_probe interval)
RETURNS TABLE (state text, code text, reason text, wait_seconds double precision,
               failures integer, is_probe boolean)
LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v memory_circuits;
BEGIN
    SELECT * INTO v FROM memory_circuits WHERE name = p_name;
    IF NOT FOUND OR v.state = 'closed' THEN
        RETURN QUERY SELECT 'closed', NULL::text, NULL::text, 0::double precision,
                            coalesce(v.failures, 0), false;
        RETURN;
    END IF;
    IF v.blocked_until <= v_now THEN
        UPDATE memory_circuits SET probe_until = v_now + p_probe
        WHERE name = p_name AND state <> 'closed' AND blocked_until <= v_now
          AND (probe_until IS NULL OR probe_until <= v_now);
        IF FOUND THEN
            RETURN QUERY SELECT v.state, v.code, v.reason, 0::double precision, v.failures, true;
            RETURN;
        END IF;
    END IF;
    RETURN QUERY SELECT v.state, v.code, v.reason,
        greatest(extract(epoch FROM v.blocked_until - v_now)::double precision, 0), v.failures, false;
END $body$;

-- Record the outcome of a call: 'well', 'limited' (wait p_wait), 'away' or 'refused' (p_failures_max of one
-- kind in a row open the circuit for p_pause, doubling up to p_pause_max; a failed probe does at
-- once).
CREATE OR REPLACE FUNCTION note_memory_circuit(
    p_name text, p_outcome text, p_is_probe boolean, p_code text, p_reason text, p_wait interval,
    p_failures_max integer, p_pause interval, p_pause_max interval
) RETURNS void LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v memory_circuits;
    v_failures integer;
BEGIN
    INSERT INTO memory_circuits (name) VALUES (p_name) ON CONFLICT (name) DO NOTHING;
    SELECT * INTO v FROM memory_circuits WHERE name = p_name FOR UPDATE;
    v_failures := CASE WHEN v.failing = p_outcome THEN v.failures + 1 ELSE 1 END;
    IF p_outcome <> 'well' THEN
        UPDATE memory_circuits SET last_code = p_code, last_reason = p_reason, last_failed_at = v_now
        WHERE name = p_name;
    END IF;
    CASE
    WHEN p_outcome = 'well' THEN
        -- The result of a call that started before the provider's rate limit does not lift the limit.
        UPDATE memory_circuits
        SET state = 'closed', failures = 0, failing = NULL, openings = 0, code = NULL,
            reason = NULL, blocked_until = NULL, probe_until = NULL, failing_since = NULL,
            changed_at = v_now
        WHERE name = p_name AND (p_is_probe OR v.state <> 'limited');
    WHEN p_outcome = 'limited' THEN
        UPDATE memory_circuits
        SET state = 'limited', code = p_code, reason = p_reason, probe_until = NULL, changed_at = v_now,
            failing_since = CASE WHEN v.state = 'limited' THEN v.failing_since ELSE v_now END,
            blocked_until = greatest(v_now + p_wait, CASE WHEN v.state = 'limited' THEN v.blocked_until END)
        WHERE name = p_name;
    WHEN p_is_probe OR (v.state = 'closed' AND v_failures >= p_failures_max) THEN
        UPDATE memory_circuits
        SET state = p_outcome, failures = v_failures, failing = p_outcome, openings = v.openings + 1,
            code = p_code, reason = p_reason, probe_until = NULL, changed_at = v_now,
            failing_since = coalesce(v.failing_since, v_now),
            blocked_until = v_now + least(p_pause * 2 ^ least(v.openings, 20), p_pause_max)
        WHERE name = p_name;
    ELSE
        UPDATE memory_circuits SET failures = v_failures, failing = p_outcome, changed_at = v_now,
            failing_since = CASE WHEN v.failing = p_outcome THEN coalesce(v.failing_since, v_now) ELSE v_now END
        WHERE name = p_name;
    END CASE;
END $body$;

-- Keep the derived facts of a block whose other step is still pending: the next attempt need not
-- pay for them again. The block's status and its job stay as they are. False where the job is no
-- longer the caller's own attempt or the block was edited: nothing is changed there.
CREATE OR REPLACE FUNCTION keep_memory_enrichment(
    p_worker text, p_job_id bigint, p_attempt integer, p_revision integer, p_title text,
    p_summary text, p_facts jsonb, p_importance real, p_language text, p_enrichment text
) RETURNS boolean LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_project text;
    v_user text;
    v_block uuid;
BEGIN
    SELECT project_id, user_id, block_id INTO v_project, v_user, v_block FROM memory_jobs
    WHERE id = p_job_id AND attempts = p_attempt AND status = 'processing' AND locked_by = p_worker
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM raise_memory_versions(ARRAY[v_project], ARRAY[v_user], ARRAY[NULL::uuid], v_now);
    UPDATE memory_blocks
    SET title = p_title, summary = p_summary,
        tags = ARRAY(SELECT jsonb_array_elements_text(p_facts -> 'tags')),
        entities = p_facts -> 'entities', importance = p_importance, language = p_language,
        enrichment = p_enrichment, enrichment_model = p_facts ->> 'model',
        enriched_revision = p_revision, error = p_facts ->> 'error',
        backfill_steps = CASE WHEN p_facts ? 'backfill_steps' THEN
            ARRAY(SELECT jsonb_array_elements_text(p_facts -> 'backfill_steps')) END,
        updated_at = v_now
    WHERE project_id = v_project AND user_id = v_user AND id = v_block AND revision = p_revision;
    RETURN FOUND;
END $body$;

-- Enqueue jobs for active blocks whose pending backfill is due, behind all other work, as long as
-- fewer than p_open_max of them wait and all of these circuits are closed. Their payload names the
-- steps: {"backfill": ["enrich"]}. Returns how many were enqueued.
CREATE OR REPLACE FUNCTION enqueue_memory_backfill(p_open_max integer, p_circuits text[])
RETURNS integer LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_priority integer := -20;
    v_capacity integer;
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
    v_payloads jsonb[];
BEGIN
    -- Every worker calls this; one of them at a time is enough.
    IF NOT pg_try_advisory_xact_lock(hashtext('enqueue_memory_backfill')) THEN
        RETURN 0;
    END IF;
    IF EXISTS (SELECT FROM memory_circuits AS c
               WHERE c.name = ANY (p_circuits) AND c.state <> 'closed' AND c.blocked_until > v_now) THEN
        RETURN 0;
    END IF;
    SELECT p_open_max - count(*) INTO v_capacity
    FROM (SELECT FROM memory_jobs
          WHERE status = 'pending' AND fair_at < 'infinity' AND priority = v_priority
          LIMIT p_open_max) AS j;
    SELECT array_agg(w.project_id), array_agg(w.user_id), array_agg(w.id),
           array_agg(jsonb_build_object('backfill', coalesce(w.backfill_steps, '{}')))
    INTO v_projects, v_users, v_blocks, v_payloads
    FROM (SELECT b.project_id, b.user_id, b.id, b.backfill_steps FROM memory_blocks AS b
          WHERE b.backfill_at <= v_now AND b.status = 'active'
            AND NOT EXISTS (SELECT FROM memory_jobs AS j
                WHERE j.block_id = b.id AND j.status IN ('pending', 'processing')
                  AND j.job_type = 'enrich_and_embed'
                  AND j.project_id = b.project_id AND j.user_id = b.user_id)
          ORDER BY b.backfill_at LIMIT v_capacity) AS w;
    IF v_blocks IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM enqueue_memory_jobs(v_projects, v_users,
        array_fill('enrich_and_embed'::text, ARRAY[cardinality(v_blocks)]), v_blocks, v_payloads,
        array_fill(v_priority, ARRAY[cardinality(v_blocks)]),
        array_fill(NULL::timestamptz, ARRAY[cardinality(v_blocks)]),
        array_fill(NULL::text, ARRAY[cardinality(v_blocks)]), 1);
    -- The job itself sets the time of the next backfill, if any; this is for jobs that are deleted.
    UPDATE memory_blocks AS b SET backfill_at = v_now + interval '1 hour'
    FROM unnest(v_projects, v_users, v_blocks) AS i (project_id, user_id, block_id)
    WHERE b.project_id = i.project_id AND b.user_id = i.user_id AND b.id = i.block_id;
    RETURN cardinality(v_blocks);
END $body$;

-- Make backfills that are pending for later or on request due now, for at most p_limit blocks, whose
-- number it returns. Workers then process them, behind all other work.
CREATE OR REPLACE FUNCTION request_memory_backfill(
    p_project_id text DEFAULT NULL, p_user_id text DEFAULT NULL, p_limit integer DEFAULT 1000
) RETURNS integer LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_changed integer;
BEGIN
    UPDATE memory_blocks AS b SET backfill_at = v_now
    FROM (SELECT project_id, user_id, id FROM memory_blocks
          WHERE backfill_at > v_now AND status = 'active'
            AND (p_project_id IS NULL OR project_id = p_project_id)
            AND (p_user_id IS NULL OR user_id = p_user_id)
            -- A step that a waiting job will do is not requested twice.
            AND NOT EXISTS (SELECT FROM memory_jobs AS j
                WHERE j.block_id = memory_blocks.id AND j.status IN ('pending', 'processing')
                  AND j.job_type = 'enrich_and_embed'
                  AND j.project_id = memory_blocks.project_id AND j.user_id = memory_blocks.user_id)
          ORDER BY project_id, user_id, id LIMIT p_limit FOR UPDATE) AS w
    WHERE b.project_id = w.project_id AND b.user_id = w.user_id AND b.id = w.id;
    GET DIAGNOSTICS v_changed = ROW_COUNT;
    RETURN v_changed;
END $body$;

-- Replace a scope's vectors by those of its next model, at once for every reader.
-- Returns how many. Vectors of an earlier revision are dropped.
CREATE OR REPLACE FUNCTION move_memory_vectors(p_project_id text, p_user_id text, p_model text)
RETURNS integer LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_moved integer;
BEGIN
    -- This lock blocks only an erasure, after which there is nothing to move.
    PERFORM FROM memory_users
    WHERE project_id = p_project_id AND user_id = p_user_id FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    UPDATE memory_passages AS m
    SET embedding = n.embedding,
        embedding_model = CASE WHEN n.embedding IS NULL THEN 'none:' ELSE '' END || p_model
    FROM memory_next_passages AS n
    JOIN memory_blocks AS b ON b.project_id = n.project_id AND b.user_id = n.user_id
        AND b.id = n.block_id AND b.revision = n.revision
    WHERE n.project_id = p_project_id AND n.user_id = p_user_id AND n.model = p_model
      AND m.project_id = n.project_id AND m.user_id = n.user_id AND m.block_id = n.block_id
      AND m.ordinal = n.ordinal;
    GET DIAGNOSTICS v_moved = ROW_COUNT;
    DELETE FROM memory_next_passages WHERE project_id = p_project_id AND user_id = p_user_id;
    -- Windows of turns contain the text of several blocks: their own jobs embed them again.
    DELETE FROM memory_passages
    WHERE project_id = p_project_id AND user_id = p_user_id AND ordinal = -1
      AND embedding_model <> p_model;
    IF FOUND THEN
        PERFORM enqueue_memory_jobs(ARRAY[p_project_id], ARRAY[p_user_id], ARRAY['reembed'],
            NULL, ARRAY['{"sessions": "all"}'::jsonb], ARRAY[-20], NULL, NULL);
    END IF;
    INSERT INTO memory_scope_models AS s (project_id, user_id, model, changed_at)
    VALUES (p_project_id, p_user_id, p_model, now())
    ON CONFLICT (project_id, user_id) DO UPDATE
    SET model = excluded.model, changed_at = excluded.changed_at;
    RETURN v_moved;
END $body$;

-- Jobs for up to p_limit scopes that have passages without a vector of p_model, once the jobs enqueued
-- before have ended; returns how many. If none is left the other models retire, and a little later
-- the change is finished. Does nothing unless the model is requested, nor while one of
-- these circuits is open.
CREATE OR REPLACE FUNCTION enqueue_memory_reembeds(p_model text, p_limit integer, p_circuits text[])
RETURNS integer LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_projects text[];
    v_users text[];
BEGIN
    IF NOT EXISTS (SELECT FROM memory_embedding_models WHERE id = p_model AND wanted_at IS NOT NULL)
       OR NOT pg_try_advisory_xact_lock(hashtext('enqueue_memory_reembeds'))
       OR EXISTS (SELECT FROM memory_circuits AS c
                  WHERE c.name = ANY (p_circuits) AND c.state <> 'closed' AND c.blocked_until > v_now)
       OR EXISTS (SELECT FROM memory_jobs AS j
                  WHERE j.block_id IS NULL AND j.status IN ('pending', 'processing')
                    AND j.job_type = 'reembed' AND j.payload = '{}') THEN
        RETURN 0;
    END IF;
    SELECT array_agg(s.project_id), array_agg(s.user_id) INTO v_projects, v_users
    FROM (SELECT DISTINCT m.project_id, m.user_id FROM memory_passages AS m
          JOIN memory_blocks AS b ON b.project_id = m.project_id AND b.user_id = m.user_id
              AND b.id = m.block_id
          WHERE m.ordinal >= 0 AND m.embedding_model IS DISTINCT FROM p_model
            AND m.embedding_model IS DISTINCT FROM 'none:' || p_model
            -- Their own job embeds them.
            AND b.status <> 'pending_enrichment'
          LIMIT p_limit) AS s;
    IF v_projects IS NOT NULL THEN
        PERFORM enqueue_memory_jobs(v_projects, v_users,
            array_fill('reembed'::text, ARRAY[cardinality(v_users)]),
            array_fill(NULL::uuid, ARRAY[cardinality(v_users)]),
            array_fill(NULL::jsonb, ARRAY[cardinality(v_users)]),
            array_fill(-10, ARRAY[cardinality(v_users)]),
            array_fill(NULL::timestamptz, ARRAY[cardinality(v_users)]),
            array_fill(NULL::text, ARRAY[cardinality(v_users)]));
        RETURN cardinality(v_users);
    END IF;
    IF EXISTS (SELECT FROM memory_passages AS m
               WHERE m.ordinal >= 0
                 AND m.embedding_model NOT IN (p_model, 'none:' || p_model)) THEN
        RETURN 0;
    END IF;
    UPDATE memory_embedding_models SET retired_at = v_now WHERE id <> p_model AND retired_at IS NULL;
    IF NOT FOUND THEN
        -- Processes learn of a retirement within seconds; texts they embedded until then are stale, and
        -- were searched for above.
        UPDATE memory_embedding_models SET wanted_at = NULL
        WHERE wanted_at IS NOT NULL AND NOT EXISTS (
            SELECT FROM memory_embedding_models AS o WHERE o.retired_at > v_now - interval '10 s');
        IF FOUND THEN
            -- A job that read its scope's model before the switch may have stored windows after it.
            SELECT array_agg(s.project_id), array_agg(s.user_id) INTO v_projects, v_users
            FROM (SELECT DISTINCT m.project_id, m.user_id FROM memory_passages AS m
                  WHERE m.ordinal = -1 AND m.embedding_model <> p_model) AS s;
            IF v_projects IS NOT NULL THEN
                PERFORM enqueue_memory_jobs(v_projects, v_users,
                    array_fill('reembed'::text, ARRAY[cardinality(v_users)]),
                    array_fill(NULL::uuid, ARRAY[cardinality(v_users)]),
                    array_fill('{"sessions": "all"}'::jsonb, ARRAY[cardinality(v_users)]),
                    array_fill(-20, ARRAY[cardinality(v_users)]),
                    array_fill(NULL::timestamptz, ARRAY[cardinality(v_users)]),
                    array_fill(NULL::text, ARRAY[cardinality(v_users)]));
            END IF;
        END IF;
        DELETE FROM memory_next_passages;
    END IF;
    RETURN 0;
END $body$;

-- The functions of the queue. Every function takes arrays and reads the clock once: an UPDATE that
-- calls a volatile function is planned without its index. Rows are locked in the order
-- jobs, users, blocks, so that no two of these can deadlock.
--
-- Those that search jobs by state do it without bitmap scans: a job stays in each state for
-- milliseconds, so nearly all entries of these indexes are dead between two runs of the vacuum. An
-- index scan marks and skips dead entries; a bitmap scan visits all of their rows again
-- (measured behind 60,000 completed jobs: 6.4 ms per claim, where the claim itself takes 1.8). Nor
-- sequential scans, which the planner takes when a table has grown since it was last analyzed.

-- The queue's virtual time, from which a user without waiting jobs takes a place: that of the job
-- next in line, or now when no job waits. By the clock alone, a backlog that drains slower than its
-- places were assigned would fall behind it, and a new user would queue behind all of it.
CREATE OR REPLACE FUNCTION memory_queue_place(p_now timestamptz)
RETURNS timestamptz LANGUAGE plpgsql STABLE AS $body$
BEGIN
    RETURN least(p_now, (SELECT fair_at FROM memory_jobs
        WHERE status = 'pending' AND fair_at < 'infinity' AND priority = 0
        ORDER BY fair_at LIMIT 1));
END $body$;

-- Enqueue jobs for blocks, or for a user where the block is NULL. A unique key that exists already
-- returns no row. Returns the new ids.
CREATE OR REPLACE FUNCTION enqueue_memory_jobs(
    p_project_ids text[], p_user_ids text[], p_job_types text[], p_block_ids uuid[],
    p_payloads jsonb[], p_priorities integer[], p_run_at timestamptz[], p_unique_keys text[],
    p_max_attempts integer DEFAULT 3, p_fair_step interval DEFAULT '100 ms'
) RETURNS SETOF bigint LANGUAGE plpgsql SET lock_timeout = '250ms' AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_place timestamptz := memory_queue_place(v_now);
    v_touched record;
BEGIN
    -- A single job is the usual call and needs no grouping: a third less time.
    IF cardinality(p_project_ids) = 1 THEN
        INSERT INTO memory_users AS u (project_id, user_id, fair_at)
        VALUES (p_project_ids[1], p_user_ids[1], v_place + p_fair_step)
        ON CONFLICT (project_id, user_id) DO UPDATE
        SET fair_at = memory_later(greatest(v_place, u.fair_at), p_fair_step)
        RETURNING u.fair_at INTO v_place;
        RETURN QUERY
        INSERT INTO memory_jobs (project_id, user_id, job_type, block_id, payload, priority, run_at,
            unique_key, max_attempts, fair_at, created_at)
        VALUES (p_project_ids[1], p_user_ids[1], p_job_types[1], p_block_ids[1],
            coalesce(p_payloads[1], '{}'), coalesce(p_priorities[1], 0), coalesce(p_run_at[1], v_now),
            p_unique_keys[1], p_max_attempts,
            CASE WHEN p_run_at[1] > v_now THEN 'infinity' ELSE v_place END, v_now)
        ON CONFLICT (project_id, user_id, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
        RETURNING id;
        RETURN;
    END IF;

    WITH touched AS (
        INSERT INTO memory_users AS u (project_id, user_id, fair_at)
        SELECT i.project_id, i.user_id, v_place + p_fair_step * count(*)
        FROM unnest(p_project_ids, p_user_ids) AS i (project_id, user_id)
        GROUP BY i.project_id, i.user_id ORDER BY i.project_id, i.user_id
        ON CONFLICT (project_id, user_id) DO UPDATE
        SET fair_at = memory_later(greatest(v_place, u.fair_at), excluded.fair_at - v_place)
        RETURNING u.project_id, u.user_id, u.fair_at
    )
    SELECT array_agg(t.project_id) AS projects, array_agg(t.user_id) AS users, array_agg(t.fair_at) AS places
    INTO v_touched FROM touched AS t;
    RETURN QUERY
    INSERT INTO memory_jobs (project_id, user_id, job_type, block_id, payload, priority, run_at,
        unique_key, max_attempts, fair_at, created_at)
    SELECT i.project_id, i.user_id, i.job_type, i.block_id, coalesce(i.payload, '{}'),
           coalesce(i.priority, 0), coalesce(i.run_at, v_now), i.unique_key, p_max_attempts,
           CASE WHEN i.run_at > v_now THEN 'infinity'
                ELSE t.fair_at - p_fair_step * (i.items - i.turn) END, v_now
    FROM (SELECT x.*, count(*) OVER (PARTITION BY x.project_id, x.user_id) AS items,
                 row_number() OVER (PARTITION BY x.project_id, x.user_id ORDER BY x.n) AS turn
          FROM unnest(p_project_ids, p_user_ids, p_job_types, p_block_ids, p_payloads, p_priorities,
                      p_run_at, p_unique_keys) WITH ORDINALITY
               AS x (project_id, user_id, job_type, block_id, payload, priority, run_at, unique_key, n)) AS i
    JOIN unnest(v_touched.projects, v_touched.users, v_touched.places) AS t (project_id, user_id, fair_at)
      ON t.project_id = i.project_id AND t.user_id = i.user_id
    ORDER BY i.n
    ON CONFLICT (project_id, user_id, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
    RETURNING id;
END $body$;

-- The history of a job's failed attempts with one more: the last ten are kept, oldest first.
CREATE OR REPLACE FUNCTION memory_attempt_errors(
    p_errors jsonb, p_attempt integer, p_at timestamptz, p_worker text, p_error_class text,
    p_message text
) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $body$
BEGIN
    WHILE jsonb_array_length(p_errors) >= 10 LOOP
        p_errors := p_errors - 0;
    END LOOP;
    RETURN p_errors || jsonb_build_array(jsonb_build_object('attempt', p_attempt,
        'at', to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'worker', p_worker, 'error_class', p_error_class, 'message', left(p_message, 500)));
END $body$;

-- No worker claims jobs of a type, or any job where the type is NULL, until they are resumed; what
-- runs continues, and jobs can be enqueued. Returns whether it was not paused before.
CREATE OR REPLACE FUNCTION pause_memory_jobs(p_job_type text DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO memory_job_pauses (job_type) VALUES (coalesce(p_job_type, 'all'))
    ON CONFLICT (job_type) DO NOTHING;
    RETURN FOUND;
END $body$;

-- Workers claim jobs of this type again; if the type is NULL, of every paused type. Returns how
-- many pauses ended.
CREATE OR REPLACE FUNCTION resume_memory_jobs(p_job_type text DEFAULT NULL)
RETURNS integer LANGUAGE plpgsql AS $body$
DECLARE
    v_ended integer;
BEGIN
    DELETE FROM memory_job_pauses WHERE p_job_type IS NULL OR job_type = p_job_type;
    GET DIAGNOSTICS v_ended = ROW_COUNT;
    RETURN v_ended;
END $body$;

-- Mark blocks whose enrichment failed for good; their text stays searchable.
CREATE OR REPLACE FUNCTION fail_memory_blocks(
    p_project_ids text[], p_user_ids text[], p_block_ids uuid[], p_errors text[]
) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_failed record;
BEGIN
    -- Statuses are not indexed for search, so no passage changes.
    PERFORM raise_memory_versions(p_project_ids, p_user_ids,
        array_fill(NULL::uuid, ARRAY[cardinality(p_user_ids)]), v_now);

    WITH failed AS (
        UPDATE memory_blocks AS b
        SET status = 'failed', error = i.error, updated_at = v_now
        FROM unnest(p_project_ids, p_user_ids, p_block_ids, p_errors)
             AS i (project_id, user_id, block_id, error)
        WHERE b.project_id = i.project_id AND b.user_id = i.user_id AND b.id = i.block_id
          AND b.status = 'pending_enrichment'
        RETURNING b.project_id, b.user_id, b.id
    )
    SELECT array_agg(f.project_id ORDER BY f.id) AS projects,
           array_agg(f.user_id ORDER BY f.id) AS users, array_agg(f.id ORDER BY f.id) AS ids
    INTO v_failed FROM failed AS f;
    IF v_failed.ids IS NOT NULL THEN
        PERFORM record_memory_events('block.failed', v_failed.projects, v_failed.users, v_failed.ids,
            NULL);
    END IF;
END $body$;

-- Report jobs that failed for good, except those that deliver events: one would cause the next.
CREATE OR REPLACE FUNCTION report_failed_memory_jobs(p_ids bigint[])
RETURNS void LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
DECLARE
    v_failed record;
BEGIN
    SELECT array_agg(j.project_id ORDER BY j.id) AS projects,
           array_agg(j.user_id ORDER BY j.id) AS users,
           array_agg(j.block_id ORDER BY j.id) AS blocks,
           array_agg(jsonb_build_object('job_id', j.id, 'job_type', j.job_type,
               'error_class', j.error_class) ORDER BY j.id) AS data
    INTO v_failed FROM memory_jobs AS j
    WHERE j.id = ANY (p_ids) AND j.status = 'failed' AND j.job_type <> 'deliver_webhook';
    IF v_failed.projects IS NOT NULL THEN
        PERFORM record_memory_events('job.failed', v_failed.projects, v_failed.users, v_failed.blocks,
            v_failed.data);
    END IF;
END $body$;

-- Release jobs whose worker is gone: the lease ran out, or the session advisory lock that a
-- directly connected worker holds was free at two checks. The attempt stays counted, so a job that
-- kills its worker runs out of them; its last one it runs alone (see claim_memory_jobs), so that it
-- does not take others with it. Returns how many jobs went back or failed.
CREATE OR REPLACE FUNCTION rescue_memory_jobs(p_worker text, p_limit integer DEFAULT 100)
RETURNS integer LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_up timestamptz;
    v_is_steady boolean;
    v_gone text[];
    v_ids bigint[];
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
    v_errors text[];
    v_rescued integer;
BEGIN
    v_gone := ARRAY(SELECT h.id
        FROM (SELECT w.id, w.lock_key
              FROM (SELECT DISTINCT locked_by FROM memory_jobs
                    WHERE status = 'processing' AND locked_by <> p_worker) AS j
              JOIN memory_workers AS w ON w.id = j.locked_by
              WHERE w.lock_key IS NOT NULL
              OFFSET 0  -- or the locks of all workers there ever were are tried
             ) AS h
        WHERE pg_try_advisory_xact_lock_shared(h.lock_key));
    IF cardinality(v_gone) > 0 THEN
        -- A worker that lost only its connection is back before the second check, and clears this
        -- with its heartbeat.
        UPDATE memory_workers SET stopped_at = v_now
        WHERE id = ANY (ARRAY(SELECT id FROM memory_workers
            WHERE id = ANY (v_gone) AND stopped_at IS NULL ORDER BY id FOR UPDATE SKIP LOCKED));
        v_gone := ARRAY(SELECT id FROM memory_workers
            WHERE id = ANY (v_gone) AND stopped_at < v_now - interval '400 ms');
    END IF;

    -- Leases also run out while the database is frozen. A worker without a recent heartbeat, or with
    -- one again only for a moment, cannot distinguish such leases from those of dead workers; their holders
    -- reconnect at that moment too, and complete or release their jobs.
    v_is_steady := NOT EXISTS (SELECT FROM memory_workers WHERE id = p_worker
        AND (last_seen < v_now - interval '12 s' OR steady_since > v_now - interval '10 s'));

    v_ids := ARRAY(SELECT id FROM memory_jobs
        WHERE status = 'processing'
          AND (locked_until < v_now AND v_is_steady OR locked_by = ANY (v_gone))
        ORDER BY locked_until LIMIT p_limit FOR UPDATE SKIP LOCKED);
    IF cardinality(v_ids) = 0 THEN
        RETURN 0;
    END IF;

    -- A restart frees every lock, and leases run out while no job can be completed: the holders of
    -- jobs that are older than the server get time to reconnect. The WAL writer starts when the server
    -- begins to accept statements, also after the crash of a backend; not every role may see it.
    SELECT greatest(pg_postmaster_start_time(), max(a.backend_start)) INTO v_up
    FROM pg_stat_activity AS a WHERE a.backend_type = 'walwriter';
    IF v_now < v_up + interval '10 s' THEN
        v_ids := ARRAY(SELECT id FROM memory_jobs WHERE id = ANY (v_ids) AND started_at >= v_up);
    END IF;

    -- Behind a transaction pooler there are no locks: a missing heartbeat and an expired lease take their place.
    v_gone := v_gone || ARRAY(SELECT w.id FROM memory_workers AS w
        WHERE w.lock_key IS NULL AND w.last_seen < v_now - interval '15 s'
          AND w.id = ANY (ARRAY(SELECT locked_by FROM memory_jobs WHERE id = ANY (v_ids))));

    UPDATE memory_jobs
    SET status = CASE WHEN attempts < max_attempts THEN 'pending' ELSE 'failed' END,
        fair_at = CASE WHEN attempts = max_attempts - 1 AND locked_by = ANY (v_gone) THEN 'infinity'
                       ELSE least(fair_at, v_now) END,
        finished_at = CASE WHEN attempts < max_attempts THEN NULL ELSE v_now END,
        error_class = CASE WHEN locked_by = ANY (v_gone) THEN 'poison' ELSE 'timeout' END,
        last_error = 'worker ' || locked_by || ' was gone while it ran attempt ' || attempts::text,
        attempt_errors = memory_attempt_errors(attempt_errors, attempts, v_now, locked_by,
            CASE WHEN locked_by = ANY (v_gone) THEN 'poison' ELSE 'timeout' END,
            'worker ' || locked_by || ' was gone while it ran attempt ' || attempts::text),
        locked_until = NULL
    WHERE id = ANY (v_ids);
    GET DIAGNOSTICS v_rescued = ROW_COUNT;

    SELECT array_agg(project_id), array_agg(user_id), array_agg(block_id), array_agg(last_error)
    INTO v_projects, v_users, v_blocks, v_errors
    FROM memory_jobs
    WHERE id = ANY (v_ids) AND status = 'failed' AND job_type = 'enrich_and_embed';
    IF v_projects IS NOT NULL THEN
        PERFORM fail_memory_blocks(v_projects, v_users, v_blocks, v_errors);
    END IF;
    PERFORM report_failed_memory_jobs(v_ids);
    RETURN v_rescued;
END $body$;

-- Claim up to p_limit jobs for p_lease. Each claim counts an attempt. p_rescue first takes back
-- jobs of dead workers (callers request it at intervals, not at every claim).
--
-- Jobs below priority 0 run in the background: a worker claims them if no other job waits and it runs
-- none, or they would slow down the last jobs of a backlog. One that has waited
-- for 10 s longer than its turn is claimed if no other job waits; a worker runs one of those at a time.
--
-- A job with one attempt left whose worker was gone in the last one may be what ended it. Such a job
-- is set aside (fair_at 'infinity' with its time come), is claimed alone by a worker that runs nothing
-- else, and nothing joins it: jobs beside it would lose their attempts to it. One worker at a time
-- runs such jobs, the others continue: a busy one that finds such a job reserves it (locked_by and
-- locked_until of a pending job), claims nothing more and takes it when it is idle, unless another
-- idle worker was faster.
CREATE OR REPLACE FUNCTION claim_memory_jobs(
    p_worker text, p_limit integer, p_lease interval, p_job_types text[],
    p_rescue boolean DEFAULT true
) RETURNS SETOF memory_jobs LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_fair_step interval := '100 ms';
    v_ids bigint[];
    v_run_at timestamptz[];
    v_behind interval[];
    v_place timestamptz;
    v_alone bigint;
    v_running integer;
    v_running_low integer;
    v_low_limit integer;
    v_paused text[];
BEGIN
    -- A claim need not be durable: one that a crash of the server undoes is made again by the next
    -- worker, and the fence rejects the first worker's result. So its commit does not wait for the
    -- disk; this holds for the whole transaction, and a claim is a transaction of its own.
    PERFORM set_config('synchronous_commit', 'off', true);

    IF p_rescue THEN
        PERFORM rescue_memory_jobs(p_worker);
    END IF;

    SELECT array_agg(job_type) INTO v_paused FROM memory_job_pauses;
    IF v_paused IS NOT NULL THEN
        p_job_types := ARRAY(SELECT t FROM unnest(p_job_types) AS t
            WHERE t <> ALL (v_paused) AND 'all' <> ALL (v_paused));
        IF cardinality(p_job_types) = 0 THEN
            RETURN;
        END IF;
    END IF;

    -- Jobs whose time has come get a place: each user's first is next in line, the others follow
    -- step by step, so that one user's many jobs do not delay those of all others.
    WITH due AS (
        SELECT id, project_id, user_id, run_at FROM memory_jobs
        WHERE status = 'pending' AND fair_at = 'infinity' AND run_at <= v_now
          AND (attempts < max_attempts - 1 OR error_class IS DISTINCT FROM 'poison')
        ORDER BY run_at LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
    SELECT array_agg(d.id), array_agg(d.run_at), array_agg(v_fair_step * (d.turn - 1))
    INTO v_ids, v_run_at, v_behind
    FROM (SELECT id, run_at, row_number() OVER (PARTITION BY project_id, user_id ORDER BY run_at, id) AS turn
          FROM due) AS d;
    IF v_ids IS NOT NULL THEN
        v_place := memory_queue_place(v_now);
        UPDATE memory_jobs AS j SET fair_at = memory_later(least(i.run_at, v_place), i.behind)
        FROM unnest(v_ids, v_run_at, v_behind) AS i (id, run_at, behind) WHERE j.id = i.id;
    END IF;

    -- A job that runs alone is found by its own index; a worker's other jobs are counted only
    -- if the count matters: for most claims it would cost more than the claim itself.
    IF p_limit <= 0 OR EXISTS (SELECT FROM memory_jobs
            WHERE status = 'processing' AND error_class = 'poison' AND attempts = max_attempts
              AND locked_by = p_worker) THEN
        RETURN;
    END IF;
    SELECT id INTO v_alone FROM memory_jobs
    WHERE status = 'pending' AND fair_at = 'infinity' AND run_at <= v_now
      AND attempts = max_attempts - 1 AND error_class = 'poison' AND job_type = ANY (p_job_types)
    ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF v_alone IS NOT NULL THEN
        SELECT count(*) INTO v_running FROM memory_jobs
        WHERE status = 'processing' AND locked_by = p_worker;
    END IF;
    IF v_alone IS NOT NULL
       AND NOT EXISTS (SELECT FROM memory_jobs WHERE status = 'processing' AND locked_by <> p_worker
                       AND error_class = 'poison' AND attempts = max_attempts)
       AND (v_running = 0
            OR NOT EXISTS (SELECT FROM memory_jobs WHERE status = 'pending' AND fair_at = 'infinity'
                           AND locked_by <> p_worker AND locked_until > v_now)) THEN
        IF v_running > 0 THEN
            UPDATE memory_jobs SET locked_by = p_worker, locked_until = v_now + p_lease
            WHERE id = v_alone;
            RETURN;
        END IF;
        RETURN QUERY
        UPDATE memory_jobs
        SET status = 'processing', attempts = attempts + 1, locked_by = p_worker,
            locked_until = v_now + p_lease, started_at = v_now
        WHERE id = v_alone
        RETURNING *;
        RETURN;
    END IF;

    -- ANY (ARRAY(...)) takes exactly the rows the subquery locked and keeps its index scan under
    -- a generic plan; the join form can claim more than p_limit.
    RETURN QUERY
    UPDATE memory_jobs
    SET status = 'processing', attempts = attempts + 1, locked_by = p_worker,
        locked_until = v_now + p_lease, started_at = v_now
    WHERE id = ANY (ARRAY(SELECT id FROM memory_jobs
        WHERE status = 'pending' AND fair_at < 'infinity' AND priority >= 0
          AND job_type = ANY (p_job_types)
        ORDER BY priority DESC, fair_at, id LIMIT p_limit FOR UPDATE SKIP LOCKED))
    RETURNING *;
    IF FOUND THEN
        RETURN;
    END IF;

    SELECT count(*), count(*) FILTER (WHERE priority < 0) INTO v_running, v_running_low
    FROM memory_jobs WHERE status = 'processing' AND locked_by = p_worker;
    v_low_limit := CASE WHEN v_running = v_running_low THEN p_limit
                         WHEN v_running_low = 0 THEN 1 ELSE 0 END;
    RETURN QUERY
    UPDATE memory_jobs
    SET status = 'processing', attempts = attempts + 1, locked_by = p_worker,
        locked_until = v_now + p_lease, started_at = v_now
    WHERE id = ANY (ARRAY(SELECT id FROM memory_jobs
        WHERE status = 'pending' AND priority < 0 AND job_type = ANY (p_job_types)
          AND fair_at < CASE WHEN v_running = v_running_low THEN 'infinity'::timestamptz
                             ELSE v_now - interval '10 s' END
          AND fair_at < 'infinity'
        ORDER BY priority DESC, fair_at, id LIMIT v_low_limit FOR UPDATE SKIP LOCKED))
    RETURNING *;
END $body$;

-- Complete jobs that are still the caller's own attempt. Returns the ids that were.
--
-- The fence is a hash lookup and not a join (IS TRUE keeps the planner from making it one): with
-- fresh statistics of a small table, a join reads the whole primary key (measured
-- with 20,000 rows: 27 us per job, and 13 in this form).
CREATE OR REPLACE FUNCTION complete_memory_jobs(p_ids bigint[], p_attempts integer[], p_worker text)
RETURNS SETOF bigint LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_done bigint[];
BEGIN
    WITH done AS (
        UPDATE memory_jobs AS j
        SET status = 'completed', finished_at = v_now, locked_until = NULL,
            error_class = NULL, last_error = NULL
        WHERE j.id = ANY (p_ids)
          AND ((j.id, j.attempts) IN (SELECT i.id, i.attempts
               FROM unnest(p_ids, p_attempts) AS i (id, attempts))) IS TRUE
          AND j.status = 'processing' AND j.locked_by = p_worker
        RETURNING j.id
    )
    SELECT array_agg(d.id) INTO v_done FROM done AS d;

    IF v_done IS NOT NULL THEN
        UPDATE memory_workers SET completed = completed + cardinality(v_done) WHERE id = p_worker;
        IF NOT FOUND THEN
            -- Its row was pruned while it slept, or never inserted: the total is counted all the same.
            INSERT INTO memory_workers AS w (id, completed) VALUES (p_worker, cardinality(v_done))
            ON CONFLICT (id) DO UPDATE SET completed = w.completed + excluded.completed;
        END IF;
    END IF;
    RETURN QUERY SELECT unnest(v_done);
END $body$;

-- Count a failed attempt: back to pending after the backoff, or failed for good when p_final is
-- true or no attempt is left. Returns each job that was still the caller's, and its new status.
CREATE OR REPLACE FUNCTION fail_memory_jobs(
    p_ids bigint[], p_attempts integer[], p_worker text, p_error_classes text[], p_errors text[],
    p_backoffs interval[], p_final boolean[]
) RETURNS TABLE (id bigint, status text) LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_ids bigint[];
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
    v_errors text[];
BEGIN
    WITH failed AS (
        UPDATE memory_jobs AS j
        SET status = CASE WHEN i.final OR j.attempts >= j.max_attempts THEN 'failed' ELSE 'pending' END,
            run_at = CASE WHEN i.final OR j.attempts >= j.max_attempts THEN j.run_at
                          ELSE i.retry_at END,
            fair_at = 'infinity', locked_until = NULL,
            error_class = i.error_class, last_error = left(i.error, 2000),
            attempt_errors = memory_attempt_errors(j.attempt_errors, j.attempts, v_now, p_worker,
                i.error_class, i.error),
            finished_at = CASE WHEN i.final OR j.attempts >= j.max_attempts THEN v_now END
        FROM (SELECT x.*, v_now + x.backoff AS retry_at
              FROM unnest(p_ids, p_attempts, p_error_classes, p_errors, p_backoffs, p_final)
                   AS x (id, attempts, error_class, error, backoff, final)) AS i
        WHERE j.id = i.id AND j.attempts = i.attempts AND j.status = 'processing'
          AND j.locked_by = p_worker
        RETURNING j.id, j.status, j.project_id, j.user_id, j.block_id, j.job_type, j.last_error
    )
    SELECT array_agg(f.id),
           array_agg(f.project_id) FILTER (WHERE f.status = 'failed' AND f.job_type = 'enrich_and_embed'),
           array_agg(f.user_id) FILTER (WHERE f.status = 'failed' AND f.job_type = 'enrich_and_embed'),
           array_agg(f.block_id) FILTER (WHERE f.status = 'failed' AND f.job_type = 'enrich_and_embed'),
           array_agg(f.last_error) FILTER (WHERE f.status = 'failed' AND f.job_type = 'enrich_and_embed')
    INTO v_ids, v_projects, v_users, v_blocks, v_errors FROM failed AS f;

    IF v_projects IS NOT NULL THEN
        PERFORM fail_memory_blocks(v_projects, v_users, v_blocks, v_errors);
    END IF;
    PERFORM report_failed_memory_jobs(v_ids);
    RETURN QUERY SELECT j.id, j.status FROM memory_jobs AS j WHERE j.id = ANY (v_ids);
END $body$;

-- End claimed jobs for good without a result: there is nothing left to do. Blocks that wait for
-- such a job are failed with its reason. Returns the ids that were still the caller's.
CREATE OR REPLACE FUNCTION drop_memory_jobs(
    p_ids bigint[], p_attempts integer[], p_worker text, p_reasons text[]
) RETURNS SETOF bigint LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_ids bigint[];
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
    v_reasons text[];
BEGIN
    WITH dropped AS (
        UPDATE memory_jobs AS j
        SET status = 'cancelled', finished_at = v_now, locked_until = NULL,
            last_error = left(i.reason, 2000)
        FROM unnest(p_ids, p_attempts, p_reasons) AS i (id, attempts, reason)
        WHERE j.id = i.id AND j.attempts = i.attempts AND j.status = 'processing'
          AND j.locked_by = p_worker
        RETURNING j.id, j.project_id, j.user_id, j.block_id, j.job_type, j.last_error
    )
    SELECT array_agg(d.id), array_agg(d.project_id) FILTER (WHERE d.job_type = 'enrich_and_embed'),
           array_agg(d.user_id) FILTER (WHERE d.job_type = 'enrich_and_embed'),
           array_agg(d.block_id) FILTER (WHERE d.job_type = 'enrich_and_embed'),
           array_agg(d.last_error) FILTER (WHERE d.job_type = 'enrich_and_embed')
    INTO v_ids, v_projects, v_users, v_blocks, v_reasons FROM dropped AS d;

    IF v_projects IS NOT NULL THEN
        PERFORM fail_memory_blocks(v_projects, v_users, v_blocks, v_reasons);
    END IF;
    RETURN QUERY SELECT unnest(v_ids);
END $body$;

-- Release jobs without spending their attempt: a worker that stops, or work that has to wait
-- until p_run_at. Returns the ids that were still the caller's.
CREATE OR REPLACE FUNCTION release_memory_jobs(
    p_ids bigint[], p_attempts integer[], p_worker text, p_run_at timestamptz[] DEFAULT NULL
) RETURNS SETOF bigint LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
    UPDATE memory_jobs AS j
    SET status = 'pending', attempts = j.attempts - 1, locked_by = NULL, locked_until = NULL,
        run_at = coalesce(i.run_at, j.run_at),
        fair_at = CASE WHEN i.run_at > v_now THEN 'infinity'::timestamptz ELSE j.fair_at END
    FROM unnest(p_ids, p_attempts, coalesce(p_run_at, array_fill(NULL::timestamptz, ARRAY[cardinality(p_ids)])))
         AS i (id, attempts, run_at)
    WHERE j.id = i.id AND j.attempts = i.attempts AND j.status = 'processing'
      AND j.locked_by = p_worker
    RETURNING j.id;
END $body$;

-- One row per worker process, new at every start.
CREATE OR REPLACE FUNCTION heartbeat_memory_worker(
    p_worker text, p_host text, p_process_id integer, p_version text, p_running integer,
    p_lock_key bigint, p_stopping boolean DEFAULT false
) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_late timestamptz := v_now - interval '12 s';
BEGIN
    INSERT INTO memory_workers AS w (id, host, process_id, version, running, lock_key, started_at, last_seen)
    VALUES (p_worker, p_host, p_process_id, p_version, p_running, p_lock_key, v_now, v_now)
    ON CONFLICT (id) DO UPDATE
    SET running = excluded.running, last_seen = v_now, lock_key = excluded.lock_key,
        -- At least two heartbeats are missing: this worker or the database was frozen.
        steady_since = CASE WHEN w.last_seen < v_late THEN v_now ELSE w.steady_since END,
        stopped_at = CASE WHEN p_stopping THEN v_now END;
END $body$;

-- One row. Completed jobs are counted as they complete, so the cost does not depend on how many
-- of them are still stored.
CREATE OR REPLACE FUNCTION get_memory_job_stats()
RETURNS TABLE (pending bigint, processing bigint, completed bigint, failed bigint,
               deferred bigint, oldest_pending_seconds double precision)
LANGUAGE plpgsql STABLE SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT
        r.ready + d.deferred + c.claimed - c.running,
        c.running,
        (SELECT coalesce(sum(w.completed), 0)::bigint FROM memory_workers AS w),
        (SELECT count(*) FROM memory_jobs WHERE status = 'failed'),
        d.deferred,
        r.oldest
    FROM (SELECT count(*) AS ready,
                 extract(epoch FROM clock_timestamp() - min(run_at))::double precision AS oldest
          FROM memory_jobs WHERE status = 'pending' AND fair_at < 'infinity') AS r,
         (SELECT count(*) AS deferred
          FROM memory_jobs WHERE status = 'pending' AND fair_at = 'infinity') AS d,
         -- A worker claims a little ahead, and claims while it writes results back: jobs beyond its
         -- slots do not run yet, and count as pending.
         (SELECT coalesce(sum(w.jobs), 0)::bigint AS claimed,
                 coalesce(sum(least(w.jobs, w.slots)), 0)::bigint AS running
          FROM (SELECT count(*) AS jobs, (SELECT h.slots FROM memory_workers AS h WHERE h.id = j.locked_by) AS slots
                FROM memory_jobs AS j WHERE j.status = 'processing' GROUP BY j.locked_by) AS w) AS c;
END $body$;

-- The key by which recall compares speakers' names: the whole name's hash in the upper half, its first word's in
-- the lower one, ignoring case. A question that names a person uses either.
CREATE OR REPLACE FUNCTION memory_speaker_key(p_speaker text)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT (hashtext(lower(p_speaker))::bigint << 32)
         | (hashtext(split_part(lower(p_speaker), ' ', 1))::bigint & 4294967295)
$body$;

-- Store the vectors of windows of turns, each with the block it ends with, and drop those that are
-- outdated. A block that is gone by now gets none. p_turns: all blocks that
-- were read; passages stored before speaker keys existed get theirs.
CREATE OR REPLACE FUNCTION store_memory_windows(
    p_project_id text, p_user_id text, p_blocks uuid[], p_fingerprints integer[],
    p_embeddings halfvec[], p_model text, p_dropped uuid[], p_turns uuid[]
) RETURNS void LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_named uuid[];  -- turns whose speaker's key is still missing
    v_changed uuid[];
BEGIN
    v_named := ARRAY(SELECT DISTINCT m.block_id
        FROM memory_passages AS m
        JOIN memory_blocks AS b ON b.project_id = m.project_id AND b.user_id = m.user_id
            AND b.id = m.block_id
        WHERE m.project_id = p_project_id AND m.user_id = p_user_id AND m.block_id = ANY (p_turns)
          AND m.speaker_key IS NULL AND m.ordinal >= 0 AND b.speaker IS NOT NULL);
    v_changed := p_blocks || p_dropped || v_named;
    IF cardinality(v_changed) > 0 THEN
        PERFORM raise_memory_versions(array_fill(p_project_id, ARRAY[cardinality(v_changed)]),
            array_fill(p_user_id, ARRAY[cardinality(v_changed)]), v_changed, v_now);
    END IF;

    DELETE FROM memory_passages
    WHERE project_id = p_project_id AND user_id = p_user_id AND ordinal = -1
      AND block_id = ANY (p_dropped);

    INSERT INTO memory_passages AS m (project_id, user_id, block_id, ordinal, start_at, stop_at,
        session_id, occurred_at, expires_at, lexemes, embedding, embedding_model)
    SELECT b.project_id, b.user_id, b.id, -1, 0, w.fingerprint, b.session_id,
           coalesce(b.occurred_at, b.created_at), b.expires_at, '{}/1000000000', w.embedding, p_model
    FROM unnest(p_blocks, p_fingerprints, p_embeddings) AS w (id, fingerprint, embedding)
    JOIN (SELECT * FROM memory_blocks
          WHERE project_id = p_project_id AND user_id = p_user_id AND id = ANY (p_blocks)
          ORDER BY id FOR KEY SHARE) AS b USING (id)
    ON CONFLICT (project_id, user_id, block_id, ordinal) DO UPDATE
    SET stop_at = excluded.stop_at, embedding = excluded.embedding,
        embedding_model = excluded.embedding_model, session_id = excluded.session_id,
        occurred_at = excluded.occurred_at, expires_at = excluded.expires_at;

    UPDATE memory_passages AS m SET speaker_key = memory_speaker_key(b.speaker)
    FROM memory_blocks AS b
    WHERE m.project_id = p_project_id AND m.user_id = p_user_id AND m.block_id = ANY (v_named)
      AND m.speaker_key IS NULL AND m.ordinal >= 0
      AND b.project_id = p_project_id AND b.user_id = p_user_id AND b.id = m.block_id
      AND b.speaker IS NOT NULL;
END $body$;

-- Drop the vectors that depend on a block's text besides its own: the windows of the two turns
-- after it, and its own. A job embeds them again. Called while the block still exists, under
-- the lock of its user's row.
CREATE OR REPLACE FUNCTION forget_memory_windows(p_project_id text, p_user_id text, p_block_id uuid)
RETURNS void LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_session text;
    v_at timestamptz;
    v_dropped uuid[];
BEGIN
    SELECT session_id, coalesce(occurred_at, created_at) INTO v_session, v_at FROM memory_blocks
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id;
    IF v_session IS NULL THEN
        RETURN;
    END IF;
    WITH dropped AS (
        DELETE FROM memory_passages
        WHERE project_id = p_project_id AND user_id = p_user_id AND ordinal = -1
          AND block_id = ANY (ARRAY(
              SELECT b.id FROM memory_blocks AS b
              WHERE b.project_id = p_project_id AND b.user_id = p_user_id AND b.session_id = v_session
                AND (coalesce(b.occurred_at, b.created_at), b.id) >= (v_at, p_block_id)
              ORDER BY coalesce(b.occurred_at, b.created_at), b.id LIMIT 3))
        RETURNING block_id
    )
    SELECT array_agg(block_id) INTO v_dropped FROM dropped;
    IF v_dropped IS NOT NULL THEN
        PERFORM raise_memory_version(p_project_id, p_user_id, v_dropped, clock_timestamp());
        PERFORM enqueue_memory_jobs(ARRAY[p_project_id], ARRAY[p_user_id], ARRAY['reembed'],
            NULL, ARRAY[jsonb_build_object('session_id', v_session,
                'from', jsonb_build_array(v_at, p_block_id))],
            ARRAY[-10], ARRAY[clock_timestamp() + interval '2 s'], NULL);
    END IF;
END $body$;

-- Relations between a scope's blocks, and their effect: which block a later one replaced.
--
-- Blocks of a scope are ordered by when they happened, then by arrival. A block is replaced
-- only by one later in this order, whichever of the two arrived first or is named first in the
-- relation. So replacing has no cycles, and equal times have one outcome.

-- Determine again by which block each of these was replaced: the earliest later one that an accepted
-- `supersedes` or `contradicts` names, if it was found with certainty or confirmed by a user. Keeps a
-- revision of each block that changes, and marks summaries written from the former state as stale. The
-- caller holds the user's row; its version rises if any changed. Returns how many did.
CREATE OR REPLACE FUNCTION settle_memory_supersession(
    p_project_id text, p_user_id text, p_block_ids uuid[], p_changed_by text, p_now timestamptz
) RETURNS integer LANGUAGE plpgsql SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_blocks uuid[];
    v_before uuid[];
    v_after uuid[];
    v_superseded record;
BEGIN
    SELECT array_agg(b.id ORDER BY b.id), array_agg(b.superseded_by ORDER BY b.id),
           array_agg(w.id ORDER BY b.id)
    INTO v_blocks, v_before, v_after
    FROM memory_blocks AS b
    LEFT JOIN LATERAL (
        SELECT o.id
        FROM (SELECT r.target_id AS id FROM memory_relations AS r
              WHERE r.project_id = p_project_id AND r.user_id = p_user_id AND r.source_id = b.id
                AND r.type IN ('supersedes', 'contradicts') AND r.status = 'accepted'
                AND (r.confidence >= 0.7 OR r.decided_by IS NOT NULL)
              UNION
              SELECT r.source_id FROM memory_relations AS r
              WHERE r.project_id = p_project_id AND r.user_id = p_user_id AND r.target_id = b.id
                AND r.type IN ('supersedes', 'contradicts') AND r.status = 'accepted'
                AND (r.confidence >= 0.7 OR r.decided_by IS NOT NULL)) AS x
        JOIN memory_blocks AS o
          ON o.project_id = p_project_id AND o.user_id = p_user_id AND o.id = x.id
        WHERE (coalesce(o.occurred_at, o.created_at), o.created_at, o.id)
            > (coalesce(b.occurred_at, b.created_at), b.created_at, b.id)
        ORDER BY coalesce(o.occurred_at, o.created_at), o.created_at, o.id
        LIMIT 1
    ) AS w ON true
    WHERE b.project_id = p_project_id AND b.user_id = p_user_id AND b.id = ANY (p_block_ids)
      AND b.superseded_by IS DISTINCT FROM w.id;
    IF v_blocks IS NULL THEN
        RETURN 0;
    END IF;

    INSERT INTO memory_block_revisions (project_id, user_id, block_id, revision, reason, changed_by,
        before, created_at)
    SELECT p_project_id, p_user_id, b.id, b.revision, 'supersession', p_changed_by,
           jsonb_build_object('superseded_by', b.superseded_by, 'superseded_at', b.superseded_at),
           p_now
    FROM memory_blocks AS b
    WHERE b.project_id = p_project_id AND b.user_id = p_user_id AND b.id = ANY (v_blocks);

    UPDATE memory_blocks AS b
    SET superseded_by = i.after, superseded_at = CASE WHEN i.after IS NOT NULL THEN p_now END,
        updated_at = p_now
    FROM unnest(v_blocks, v_after) AS i (id, after)
    WHERE b.project_id = p_project_id AND b.user_id = p_user_id AND b.id = i.id;
    PERFORM raise_memory_version(p_project_id, p_user_id, v_blocks, p_now);
    SELECT array_agg(i.id ORDER BY i.id) AS ids,
           array_agg(jsonb_build_object('superseded_by', i.after) ORDER BY i.id) AS data
    INTO v_superseded FROM unnest(v_blocks, v_after) AS i (id, after) WHERE i.after IS NOT NULL;
    IF v_superseded.ids IS NOT NULL THEN
        PERFORM record_memory_events('block.superseded',
            array_fill(p_project_id, ARRAY[cardinality(v_superseded.ids)]),
            array_fill(p_user_id, ARRAY[cardinality(v_superseded.ids)]), v_superseded.ids,
            v_superseded.data);
    END IF;

    -- A week is summarized as of its end: only a change effective within the week makes it stale.
    UPDATE memory_summaries AS s SET stale = true, updated_at = p_now
    FROM unnest(v_blocks, v_before, v_after) AS i (id, before, after)
    JOIN memory_blocks AS b
      ON b.project_id = p_project_id AND b.user_id = p_user_id AND b.id = i.id
    WHERE s.project_id = p_project_id AND s.user_id = p_user_id AND NOT s.stale
      AND coalesce(b.occurred_at, b.created_at) >= s.starts_at
      AND coalesce(b.occurred_at, b.created_at) < s.ends_at
      AND EXISTS (SELECT FROM memory_blocks AS o
          WHERE o.project_id = p_project_id AND o.user_id = p_user_id
            AND o.id IN (i.before, i.after)
            AND coalesce(o.occurred_at, o.created_at) < s.ends_at);
    RETURN cardinality(v_blocks);
END $body$;

-- Take a block out of all relations that were found (p_all: also out of those that a user rejected),
-- before its text changes or it is deleted. Blocks it had replaced become current again, unless it was
-- itself replaced by a later block: then that one replaces them all. The caller holds the user's row.
CREATE OR REPLACE FUNCTION unrelate_memory_block(
    p_project_id text, p_user_id text, p_block_id uuid, p_all boolean, p_changed_by text,
    p_now timestamptz
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_replaced uuid[] := ARRAY(SELECT id FROM memory_blocks
        WHERE project_id = p_project_id AND user_id = p_user_id AND superseded_by = p_block_id);
BEGIN
    INSERT INTO memory_relations (id, project_id, user_id, source_id, target_id, type, confidence,
        model, created_at, updated_at)
    SELECT gen_random_uuid(), p_project_id, p_user_id, b.superseded_by, x.id, 'supersedes', 1,
           'chain', p_now, p_now
    FROM memory_blocks AS b, unnest(v_replaced) AS x (id)
    WHERE b.project_id = p_project_id AND b.user_id = p_user_id AND b.id = p_block_id
      AND b.superseded_by IS NOT NULL AND b.superseded_by <> x.id
    ON CONFLICT (project_id, user_id, source_id, target_id, type) DO NOTHING;
    DELETE FROM memory_relations
    WHERE project_id = p_project_id AND user_id = p_user_id AND (p_all OR status = 'accepted')
      AND (source_id = p_block_id OR target_id = p_block_id);
    PERFORM settle_memory_supersession(p_project_id, p_user_id, v_replaced || p_block_id,
        p_changed_by, p_now);
END $body$;

-- Whether the caller's job may detect relations of its block now: at most p_limit times in any
-- p_window for a user. One row:
--   is_mine   false if another worker has the job, or the user is gone: nothing was written
--   granted   continue; else `retry_at` is a window in which this job has one of p_limit places, so
--             that a long backlog is not scanned again for each free one
--   is_news   the first refusal of the user in a window
-- Uses are counted twice, in memory_rate_limits and on the blocks, and the higher count holds. A job that
-- was granted within the window and comes again (its worker died, its provider failed) keeps its grant;
-- its use then counts from now.
CREATE OR REPLACE FUNCTION admit_memory_relations(
    p_worker text, p_job_id bigint, p_attempt integer, p_limit integer, p_window interval
) RETURNS TABLE (is_mine boolean, granted boolean, retry_at timestamptz, is_news boolean)
LANGUAGE plpgsql SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_slot interval := p_window / 60;
    -- Beyond this many windows, jobs request again instead of reserving a place.
    v_windows_max integer := 48;
    v_job memory_jobs;
    v_count bigint;
    v_oldest timestamptz;
    v_granted boolean;
    v_retry_at timestamptz;
    v_last timestamptz;
    v_booked integer;
    v_is_news boolean := false;
BEGIN
    SELECT * INTO v_job FROM memory_jobs
    WHERE id = p_job_id AND attempts = p_attempt AND status = 'processing' AND locked_by = p_worker
    FOR UPDATE;
    IF FOUND THEN
        PERFORM FROM memory_users
        WHERE project_id = v_job.project_id AND user_id = v_job.user_id FOR UPDATE;
    END IF;
    IF NOT FOUND THEN
        RETURN QUERY SELECT false, false, NULL::timestamptz, false;
        RETURN;
    END IF;
    v_now := clock_timestamp();

    v_granted := coalesce((v_job.payload ->> 'admitted_at')::timestamptz > v_now - p_window, false);
    SELECT count(*), min(related_at) INTO v_count, v_oldest FROM memory_blocks
    WHERE project_id = v_job.project_id AND user_id = v_job.user_id
      AND related_at > v_now - p_window - v_slot;
    IF v_granted THEN
        NULL;
    ELSIF v_count >= p_limit THEN
        v_retry_at := coalesce(v_oldest, v_now) + p_window + v_slot;
    ELSE
        SELECT c.granted, c.retry_at INTO v_granted, v_retry_at
        FROM check_memory_rate_limit(v_job.project_id, v_job.user_id, 'detect_relations', p_limit,
            p_window) AS c;
    END IF;
    IF v_granted THEN
        UPDATE memory_jobs
        SET payload = coalesce(payload, '{}') || jsonb_build_object('admitted_at', v_now)
        WHERE id = p_job_id;
        UPDATE memory_blocks SET related_at = v_now
        WHERE project_id = v_job.project_id AND user_id = v_job.user_id AND id = v_job.block_id;
        RETURN QUERY SELECT true, true, NULL::timestamptz, false;
        RETURN;
    END IF;

    DELETE FROM memory_rate_limits
    WHERE project_id = v_job.project_id AND user_id = v_job.user_id
      AND ((operation = 'detect_relations:place' AND window_start <= v_now)
        OR (operation = 'detect_relations:told' AND window_start <= v_now - p_window));
    SELECT window_start, count INTO v_last, v_booked FROM memory_rate_limits
    WHERE project_id = v_job.project_id AND user_id = v_job.user_id
      AND operation = 'detect_relations:place'
    ORDER BY window_start DESC LIMIT 1;
    IF v_last >= v_retry_at THEN
        v_retry_at := CASE WHEN v_booked < p_limit
                             OR v_last > v_now + v_windows_max * p_window THEN v_last
                           ELSE v_last + p_window + 2 * v_slot END;
    END IF;
    INSERT INTO memory_rate_limits AS r (project_id, user_id, operation, window_start, count)
    VALUES (v_job.project_id, v_job.user_id, 'detect_relations:place', v_retry_at, 1)
    ON CONFLICT (project_id, user_id, operation, window_start) DO UPDATE SET count = r.count + 1;

    IF NOT EXISTS (SELECT FROM memory_rate_limits
                   WHERE project_id = v_job.project_id AND user_id = v_job.user_id
                     AND operation = 'detect_relations:told') THEN
        INSERT INTO memory_rate_limits (project_id, user_id, operation, window_start, count)
        VALUES (v_job.project_id, v_job.user_id, 'detect_relations:told', v_now, 1);
        v_is_news := true;
    END IF;
    RETURN QUERY SELECT true, false, v_retry_at, v_is_news;
END $body$;

-- Store the relations found for a block, and complete the caller's job in the same transaction.
-- Arrays of one length describe the relations; p_read_ids and p_read_revisions all blocks that were
-- read: a relation of one that changed or was deleted since then is dropped, and so is one that names a
-- missing block or one of another scope. One that a user rejected stays rejected. `stored` counts new ones.
CREATE OR REPLACE FUNCTION relate_memory_block(
    p_worker text, p_job_id bigint, p_attempt integer, p_project_id text, p_user_id text,
    p_ids uuid[], p_sources uuid[], p_targets uuid[], p_types text[], p_confidences real[],
    p_evidence text[], p_model text, p_read_ids uuid[], p_read_revisions integer[]
) RETURNS TABLE (is_mine boolean, stored integer) LANGUAGE plpgsql SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_stored integer;
    v_new record;
BEGIN
    PERFORM complete_memory_jobs(ARRAY[p_job_id], ARRAY[p_attempt], p_worker);
    IF NOT FOUND THEN
        RETURN QUERY SELECT false, 0;
        RETURN;
    END IF;
    PERFORM FROM memory_users WHERE project_id = p_project_id AND user_id = p_user_id FOR UPDATE;
    IF NOT FOUND OR cardinality(p_ids) = 0 THEN
        RETURN QUERY SELECT true, 0;
        RETURN;
    END IF;

    WITH stored AS (
        INSERT INTO memory_relations (id, project_id, user_id, source_id, target_id, type, confidence,
            evidence, model, created_at, updated_at)
        SELECT i.id, p_project_id, p_user_id, i.source_id, i.target_id, i.type, i.confidence, i.evidence,
               p_model, v_now, v_now
        FROM unnest(p_ids, p_sources, p_targets, p_types, p_confidences, p_evidence)
             AS i (id, source_id, target_id, type, confidence, evidence)
        JOIN unnest(p_read_ids, p_read_revisions) AS sr (id, revision) ON sr.id = i.source_id
        JOIN unnest(p_read_ids, p_read_revisions) AS tr (id, revision) ON tr.id = i.target_id
        JOIN memory_blocks AS s ON s.project_id = p_project_id AND s.user_id = p_user_id
            AND s.id = i.source_id AND s.revision = sr.revision
        JOIN memory_blocks AS t ON t.project_id = p_project_id AND t.user_id = p_user_id
            AND t.id = i.target_id AND t.revision = tr.revision
        WHERE i.source_id <> i.target_id
        ON CONFLICT (project_id, user_id, source_id, target_id, type) DO NOTHING
        RETURNING id, source_id, target_id, type
    )
    SELECT array_agg(s.source_id ORDER BY s.id) AS sources,
           array_agg(jsonb_build_object('relation_id', s.id, 'relation_type', s.type,
               'source_id', s.source_id, 'target_id', s.target_id) ORDER BY s.id) AS data
    INTO v_new FROM stored AS s;
    v_stored := coalesce(cardinality(v_new.sources), 0);
    IF v_stored > 0 THEN
        PERFORM record_memory_events('relation.created', array_fill(p_project_id, ARRAY[v_stored]),
            array_fill(p_user_id, ARRAY[v_stored]), v_new.sources, v_new.data);
        PERFORM settle_memory_supersession(p_project_id, p_user_id, p_sources || p_targets,
            'job ' || p_job_id, v_now);
        PERFORM raise_memory_version(p_project_id, p_user_id, '{}', v_now);
    END IF;
    RETURN QUERY SELECT true, v_stored;
END $body$;

-- Accept or reject a relation permanently: later detections do not change it. Returns whether
-- the relation exists.
CREATE OR REPLACE FUNCTION decide_memory_relation(
    p_project_id text, p_user_id text, p_id uuid, p_status text, p_decided_by text
) RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '250ms' SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_relation memory_relations;
BEGIN
    PERFORM FROM memory_users WHERE project_id = p_project_id AND user_id = p_user_id FOR UPDATE;
    UPDATE memory_relations SET status = p_status, decided_by = p_decided_by, updated_at = v_now
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_id
    RETURNING * INTO v_relation;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM settle_memory_supersession(p_project_id, p_user_id,
        ARRAY[v_relation.source_id, v_relation.target_id], p_decided_by, v_now);
    PERFORM raise_memory_version(p_project_id, p_user_id, '{}', v_now);
    RETURN true;
END $body$;

-- Weekly summaries. A week is summarized from its active blocks (no items) as of its end: a block that
-- another block of the same week, or an earlier one, had replaced by then is left out.

-- The week's blocks by id and revision. [p_starts_at, p_ends_at) is the window.
CREATE OR REPLACE FUNCTION memory_week_blocks(
    p_project_id text, p_user_id text, p_starts_at timestamptz, p_ends_at timestamptz
) RETURNS TABLE (id uuid, revision integer) LANGUAGE plpgsql STABLE AS $body$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT b.id, b.revision
    FROM memory_blocks AS b
    LEFT JOIN memory_blocks AS o ON o.project_id = b.project_id AND o.user_id = b.user_id
        AND o.id = b.superseded_by
    WHERE b.project_id = p_project_id AND b.user_id = p_user_id AND b.status = 'active' AND b.key IS NULL
      AND coalesce(b.occurred_at, b.created_at) >= p_starts_at
      AND coalesce(b.occurred_at, b.created_at) < p_ends_at
      AND (b.expires_at IS NULL OR b.expires_at > now())
      AND (b.superseded_by IS NULL OR coalesce(o.occurred_at, o.created_at) >= p_ends_at);
END $body$;

-- Mark the summaries of the weeks of these instants, or those that cite this block, as stale. The
-- caller holds the user's row.
CREATE OR REPLACE FUNCTION stale_memory_summaries(
    p_project_id text, p_user_id text, p_block_id uuid, p_instants timestamptz[], p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    UPDATE memory_summaries AS s SET stale = true, updated_at = p_now
    WHERE s.project_id = p_project_id AND s.user_id = p_user_id AND NOT s.stale
      AND (p_block_id = ANY (s.block_ids)
           OR EXISTS (SELECT FROM unnest(p_instants) AS i (instant)
                      WHERE i.instant >= s.starts_at AND i.instant < s.ends_at));
END $body$;

-- Store the summary of a week, if its blocks are unchanged since they were read; stale if there
-- are more by now. With a job, that is completed in the same transaction. Returns 'stored', 'changed'
-- (nothing was written: write it again) or 'lost' (another worker has the job, or the user is gone).
CREATE OR REPLACE FUNCTION store_memory_summary(
    p_project_id text, p_user_id text, p_week_start date, p_time_zone text,
    p_starts_at timestamptz, p_ends_at timestamptz, p_id uuid, p_text text, p_highlights jsonb,
    p_comparison text, p_model text, p_block_ids uuid[], p_read_ids uuid[],
    p_read_revisions integer[], p_worker text, p_job_id bigint, p_attempt integer
) RETURNS text LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_known bigint;
    v_all bigint;
    v_id uuid;
    v_renewed boolean;
BEGIN
    IF p_job_id IS NOT NULL THEN
        PERFORM FROM memory_jobs WHERE id = p_job_id AND attempts = p_attempt
            AND status = 'processing' AND locked_by = p_worker FOR UPDATE;
        IF NOT FOUND THEN
            RETURN 'lost';
        END IF;
    END IF;
    PERFORM FROM memory_users WHERE project_id = p_project_id AND user_id = p_user_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'lost';
    END IF;
    SELECT count(r.id), count(*) INTO v_known, v_all
    FROM memory_week_blocks(p_project_id, p_user_id, p_starts_at, p_ends_at) AS w
    LEFT JOIN unnest(p_read_ids, p_read_revisions) AS r (id, revision)
      ON r.id = w.id AND r.revision = w.revision;
    IF v_known < cardinality(p_read_ids) THEN
        RETURN 'changed';
    END IF;
    IF p_job_id IS NOT NULL THEN
        PERFORM complete_memory_jobs(ARRAY[p_job_id], ARRAY[p_attempt], p_worker);
    END IF;
    IF cardinality(p_read_ids) = 0 THEN
        DELETE FROM memory_summaries WHERE project_id = p_project_id AND user_id = p_user_id
            AND week_start = p_week_start;
        RETURN 'stored';
    END IF;
    INSERT INTO memory_summaries AS s (id, project_id, user_id, week_start, time_zone, starts_at,
        ends_at, text, highlights, comparison, block_ids, model, stale, created_at, updated_at)
    VALUES (p_id, p_project_id, p_user_id, p_week_start, p_time_zone, p_starts_at, p_ends_at,
        p_text, p_highlights, p_comparison, p_block_ids, p_model, v_all > v_known, v_now, v_now)
    ON CONFLICT (project_id, user_id, week_start) DO UPDATE
    SET time_zone = excluded.time_zone, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
        text = excluded.text, highlights = excluded.highlights, comparison = excluded.comparison,
        block_ids = excluded.block_ids, model = excluded.model, stale = excluded.stale,
        updated_at = v_now
    RETURNING s.id, xmax <> 0 INTO v_id, v_renewed;
    PERFORM record_memory_events('summary.created', ARRAY[p_project_id], ARRAY[p_user_id],
        ARRAY[NULL::uuid], ARRAY[jsonb_build_object('summary_id', v_id, 'week_start', p_week_start,
            'renewed', v_renewed)]);
    RETURN 'stored';
END $body$;

-- Operations of operators and background duties on the queue: retry, cancel, prune, limit.
-- Filters that are NULL match everything; p_project_id is never left out by a caller on behalf of
-- a client.

-- Failed jobs run again from their first attempt, and cancelled ones that p_ids names; their blocks
-- wait for enrichment again. They queue behind what their user has waiting, as if enqueued now, so
-- that many of one user delay no other user's. Oldest first, at most p_limit. Returns the ids.
CREATE OR REPLACE FUNCTION retry_memory_jobs(
    p_ids bigint[] DEFAULT NULL, p_project_id text DEFAULT NULL, p_user_id text DEFAULT NULL,
    p_job_type text DEFAULT NULL, p_error_class text DEFAULT NULL,
    p_failed_after timestamptz DEFAULT NULL, p_failed_before timestamptz DEFAULT NULL,
    p_limit integer DEFAULT 1000
) RETURNS SETOF bigint LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_head timestamptz := memory_queue_place(v_now);
    v_fair_step interval := '100 ms';
    v_ids bigint[];
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
    v_place timestamptz[];
    v_touched record;
BEGIN
    SELECT array_agg(f.id ORDER BY f.id), array_agg(f.project_id ORDER BY f.id),
           array_agg(f.user_id ORDER BY f.id), array_agg(f.enriches ORDER BY f.id)
    INTO v_ids, v_projects, v_users, v_blocks
    FROM (SELECT id, project_id, user_id,
                 CASE WHEN job_type = 'enrich_and_embed' THEN block_id END AS enriches
          FROM memory_jobs
          WHERE (status = 'failed' OR (p_ids IS NOT NULL AND status = 'cancelled'))
            -- Of no user; a webhook's pending deliveries get another job by themselves.
            AND job_type <> 'deliver_webhook'
            AND (p_ids IS NULL OR id = ANY (p_ids))
            AND (p_project_id IS NULL OR project_id = p_project_id)
            AND (p_user_id IS NULL OR user_id = p_user_id)
            AND (p_job_type IS NULL OR job_type = p_job_type)
            AND (p_error_class IS NULL OR error_class = p_error_class)
            AND (p_failed_after IS NULL OR finished_at >= p_failed_after)
            AND (p_failed_before IS NULL OR finished_at < p_failed_before)
          ORDER BY id LIMIT p_limit FOR UPDATE) AS f;
    IF v_ids IS NULL THEN
        RETURN;
    END IF;

    WITH touched AS (
        INSERT INTO memory_users AS u (project_id, user_id, version, fair_at)
        SELECT i.project_id, i.user_id, memory_next_version(0, v_now), v_head + v_fair_step * count(*)
        FROM unnest(v_projects, v_users) AS i (project_id, user_id)
        GROUP BY i.project_id, i.user_id ORDER BY i.project_id, i.user_id
        ON CONFLICT (project_id, user_id) DO UPDATE
        SET version = memory_next_version(u.version, v_now), previous = u.version,
            fair_at = memory_later(greatest(v_head, u.fair_at), excluded.fair_at - v_head)
        RETURNING u.project_id, u.user_id, u.fair_at, u.version, u.previous
    )
    SELECT array_agg(t.project_id) AS projects, array_agg(t.user_id) AS users, array_agg(t.fair_at) AS places,
           array_agg(t.version) AS versions, array_agg(t.previous) AS previous
    INTO v_touched FROM touched AS t;
    INSERT INTO memory_changes (project_id, user_id, version, previous, block_ids, has_items)
    SELECT t.project_id, t.user_id, t.version, t.previous, '{}', true
    FROM unnest(v_touched.projects, v_touched.users, v_touched.versions, v_touched.previous)
         AS t (project_id, user_id, version, previous);
    SELECT array_agg(t.fair_at - v_fair_step * (i.items - i.turn) ORDER BY i.n) INTO v_place
    FROM (SELECT x.*, count(*) OVER (PARTITION BY x.project_id, x.user_id) AS items,
                 row_number() OVER (PARTITION BY x.project_id, x.user_id ORDER BY x.n) AS turn
          FROM unnest(v_projects, v_users) WITH ORDINALITY AS x (project_id, user_id, n)) AS i
    JOIN unnest(v_touched.projects, v_touched.users, v_touched.places) AS t (project_id, user_id, fair_at)
      ON t.project_id = i.project_id AND t.user_id = i.user_id;

    UPDATE memory_jobs AS j
    SET status = 'pending', attempts = 0, run_at = v_now, fair_at = i.fair_at, locked_by = NULL,
        locked_until = NULL, finished_at = NULL
    FROM unnest(v_ids, v_place) AS i (id, fair_at)
    WHERE j.id = i.id;

    UPDATE memory_blocks AS b SET status = 'pending_enrichment', error = NULL, updated_at = v_now
    FROM unnest(v_projects, v_users, v_blocks) AS i (project_id, user_id, block_id)
    WHERE b.project_id = i.project_id AND b.user_id = i.user_id AND b.id = i.block_id
      AND b.status = 'failed';
    RETURN QUERY SELECT unnest(v_ids);
END $body$;

-- Cancel jobs that have not ended, also running ones: their worker detects it and drops
-- the result. Blocks that waited for such a job are failed with that reason. Returns the ids.
CREATE OR REPLACE FUNCTION cancel_memory_jobs(
    p_ids bigint[] DEFAULT NULL, p_project_id text DEFAULT NULL, p_user_id text DEFAULT NULL,
    p_job_type text DEFAULT NULL, p_limit integer DEFAULT 1000
) RETURNS SETOF bigint LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_ids bigint[];
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
BEGIN
    WITH cancelled AS (
        UPDATE memory_jobs
        SET status = 'cancelled', finished_at = v_now, locked_until = NULL,
            last_error = 'cancelled'
        WHERE id = ANY (ARRAY(SELECT id FROM memory_jobs
            WHERE status IN ('pending', 'processing')
              AND (p_ids IS NULL OR id = ANY (p_ids))
              AND (p_project_id IS NULL OR project_id = p_project_id)
              AND (p_user_id IS NULL OR user_id = p_user_id)
              AND (p_job_type IS NULL OR job_type = p_job_type)
            ORDER BY id LIMIT p_limit FOR UPDATE))
        RETURNING id, project_id, user_id, block_id, job_type
    )
    SELECT array_agg(id), array_agg(project_id) FILTER (WHERE job_type = 'enrich_and_embed'),
           array_agg(user_id) FILTER (WHERE job_type = 'enrich_and_embed'),
           array_agg(block_id) FILTER (WHERE job_type = 'enrich_and_embed')
    INTO v_ids, v_projects, v_users, v_blocks FROM cancelled;

    IF v_projects IS NOT NULL THEN
        PERFORM fail_memory_blocks(v_projects, v_users, v_blocks,
            array_fill('its job was cancelled'::text, ARRAY[cardinality(v_blocks)]));
    END IF;
    RETURN QUERY SELECT unnest(v_ids);
END $body$;

-- Blocks that wait for enrichment without an open job, oldest first.
CREATE OR REPLACE FUNCTION memory_waiting_blocks(p_project_id text, p_user_id text, p_limit integer)
RETURNS TABLE (project_id text, user_id text, id uuid) LANGUAGE plpgsql STABLE AS $body$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT b.project_id, b.user_id, b.id FROM memory_blocks AS b
    WHERE b.status = 'pending_enrichment'
      AND (p_project_id IS NULL OR b.project_id = p_project_id)
      AND (p_user_id IS NULL OR b.user_id = p_user_id)
      AND NOT EXISTS (SELECT FROM memory_jobs AS j
          WHERE j.block_id = b.id AND j.status IN ('pending', 'processing')
            AND j.job_type = 'enrich_and_embed'
            AND j.project_id = b.project_id AND j.user_id = b.user_id)
    ORDER BY b.id LIMIT p_limit;
END $body$;

-- Blocks that wait for enrichment without an open job (an operator cleared the queue): a job for
-- each. Oldest first, at most p_limit. Returns the ids of the new jobs.
CREATE OR REPLACE FUNCTION enqueue_waiting_memory_blocks(
    p_project_id text DEFAULT NULL, p_user_id text DEFAULT NULL, p_max_attempts integer DEFAULT 3,
    p_limit integer DEFAULT 1000
) RETURNS SETOF bigint LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
    v_ids bigint[];
BEGIN
    -- Two concurrent operators would enqueue two jobs per block; the second sees the jobs of the first.
    PERFORM pg_advisory_xact_lock(hashtext('enqueue_waiting_memory_blocks'));
    -- The users first, in the order in which all transactions lock them: a user who is being erased
    -- is gone when this returns, and is not created again.
    PERFORM FROM memory_users AS u
    WHERE (p_project_id IS NULL OR u.project_id = p_project_id)
      AND (p_user_id IS NULL OR u.user_id = p_user_id)
      AND (u.project_id, u.user_id) IN (
          SELECT w.project_id, w.user_id FROM memory_waiting_blocks(p_project_id, p_user_id, p_limit) AS w)
    ORDER BY u.project_id, u.user_id FOR UPDATE;
    SELECT array_agg(w.project_id ORDER BY w.id), array_agg(w.user_id ORDER BY w.id),
           array_agg(w.id ORDER BY w.id)
    INTO v_projects, v_users, v_blocks
    FROM memory_waiting_blocks(p_project_id, p_user_id, p_limit) AS w;
    IF v_blocks IS NULL THEN
        RETURN;
    END IF;
    v_ids := ARRAY(SELECT enqueue_memory_jobs(v_projects, v_users,
        array_fill('enrich_and_embed'::text, ARRAY[cardinality(v_blocks)]), v_blocks,
        array_fill(NULL::jsonb, ARRAY[cardinality(v_blocks)]),
        array_fill(0, ARRAY[cardinality(v_blocks)]),
        array_fill(NULL::timestamptz, ARRAY[cardinality(v_blocks)]),
        array_fill(NULL::text, ARRAY[cardinality(v_blocks)]), p_max_attempts));
    PERFORM raise_memory_versions(v_projects, v_users, v_blocks, clock_timestamp());
    -- A block's job_id refers to the job that now exists.
    UPDATE memory_blocks AS b SET job_id = j.id
    FROM memory_jobs AS j
    WHERE j.id = ANY (v_ids) AND b.project_id = j.project_id AND b.user_id = j.user_id
      AND b.id = j.block_id;
    RETURN QUERY SELECT unnest(v_ids);
END $body$;

-- Delete ended jobs older than their retention, oldest first, at most p_limit, rows of workers long
-- gone, items that have expired, and what the log of changes has of earlier than 15 minutes ago. The totals stay: what a worker completed is added to the row '(gone)'. Returns the
-- number of jobs deleted; fewer than p_limit means there is nothing more for now.
CREATE OR REPLACE FUNCTION prune_memory_jobs(
    p_completed_before timestamptz, p_failed_before timestamptz, p_limit integer DEFAULT 1000
) RETURNS integer LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_deleted integer;
    v_completed bigint;
    v_kept_from bigint := memory_next_version(0, clock_timestamp() - interval '15 min');
BEGIN
    -- By id: ended jobs are the oldest ids, so this reads hardly more rows than it deletes.
    DELETE FROM memory_jobs WHERE id = ANY (ARRAY(SELECT id FROM memory_jobs
        WHERE (status IN ('completed', 'cancelled') AND finished_at < p_completed_before
               -- A unique key must outlive the time in which it may be enqueued again.
               AND (unique_key IS NULL OR finished_at < p_completed_before - interval '30 days'))
           OR (status = 'failed' AND finished_at < p_failed_before)
        ORDER BY id LIMIT p_limit FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_deleted = ROW_COUNT;

    WITH gone AS (
        DELETE FROM memory_workers AS w
        WHERE w.last_seen < p_completed_before AND w.id <> '(gone)'
          AND NOT EXISTS (SELECT FROM memory_jobs AS j
              WHERE j.status = 'processing' AND j.locked_by = w.id)
        RETURNING w.completed
    )
    SELECT sum(completed) INTO v_completed FROM gone;
    IF v_completed > 0 THEN
        INSERT INTO memory_workers AS w (id, completed, stopped_at)
        VALUES ('(gone)', v_completed, p_completed_before)
        ON CONFLICT (id) DO UPDATE SET completed = w.completed + excluded.completed;
    END IF;

    PERFORM delete_expired_memory_items(p_limit);

    -- Versions follow the clock: the log of changes is kept for 15 minutes.
    DELETE FROM memory_changes WHERE ctid = ANY (ARRAY(SELECT ctid FROM memory_changes
        WHERE version < v_kept_from
        LIMIT 100 * p_limit));
    RETURN v_deleted;
END $body$;

-- Use one of p_limit uses of an operation within any p_window, counted in slots of a sixtieth of
-- it. One row: whether it was granted, and if not, when to retry. All workers share it; uses
-- of one user wait for each other here, so that two cannot take the last one. A user who does not exist
-- (any more) is granted nothing, and nothing is written for them.
CREATE OR REPLACE FUNCTION check_memory_rate_limit(
    p_project_id text, p_user_id text, p_operation text, p_limit integer, p_window interval
) RETURNS TABLE (granted boolean, retry_at timestamptz) LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_slot interval := p_window / 60;
    v_start timestamptz := date_bin(p_window / 60, v_now, 'epoch');
    v_used integer;
    v_oldest timestamptz;
BEGIN
    PERFORM FROM memory_users WHERE project_id = p_project_id AND user_id = p_user_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT false, v_now + p_window;
        RETURN;
    END IF;

    DELETE FROM memory_rate_limits
    WHERE project_id = p_project_id AND user_id = p_user_id AND operation = p_operation
      AND window_start <= v_now - p_window - v_slot;
    SELECT coalesce(sum(count), 0), min(window_start) INTO v_used, v_oldest
    FROM memory_rate_limits
    WHERE project_id = p_project_id AND user_id = p_user_id AND operation = p_operation;

    IF v_used >= p_limit THEN
        -- A slot counts until its last moment is a window ago.
        RETURN QUERY SELECT false, coalesce(v_oldest, v_now) + p_window + v_slot;
        RETURN;
    END IF;
    INSERT INTO memory_rate_limits AS r (project_id, user_id, operation, window_start, count)
    VALUES (p_project_id, p_user_id, p_operation, v_start, 1)
    ON CONFLICT (project_id, user_id, operation, window_start) DO UPDATE SET count = r.count + 1;
    RETURN QUERY SELECT true, NULL::timestamptz;
END $body$;

-- The version of a scope after a change at p_now: the value that cached results are checked against.
--
-- It follows the clock (microseconds), and not only a counter, so that a number never occurs twice with
-- other contents: not after a user was erased and created again, not after a crash undid the last
-- transaction, not after the database was restored from a backup. An operator who changes blocks by hand
-- raises it too: UPDATE memory_users SET version = memory_next_version(version, now()) WHERE ...
-- Such a change has no entry in memory_changes, so every snapshot of the scope is loaded again.
CREATE OR REPLACE FUNCTION memory_next_version(p_version bigint, p_now timestamptz)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    -- At a fixed offset: parts of a timestamptz depend on the session's time zone, and distributed tables
    -- accept only immutable functions in ON CONFLICT.
    SELECT greatest(p_version + 1, (extract(epoch FROM p_now AT TIME ZONE 'UTC') * 1000000)::bigint)
$body$;

-- An instant and what follows it by p_step, as an immutable function: `timestamptz + interval` depends on the session's time
-- zone where the interval has days, and distributed tables accept only immutable functions in ON CONFLICT. Here a day has
-- 24 hours. The planner puts the expression in place of the call.
CREATE OR REPLACE FUNCTION memory_later(p_at timestamptz, p_step interval)
RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT (p_at AT TIME ZONE 'UTC' + p_step) AT TIME ZONE 'UTC'
$body$;

-- Raise the version of scopes after a change at p_now, and log which of their blocks changed. Arrays of
-- one length name a changed block each; an entry without a block raises the version alone. A user
-- without a row gets one. Rows are locked in order, so that two statements cannot deadlock.
--
-- Two statements, here and elsewhere, and no INSERT that reads what another one returned: Citus would send these rows to
-- all of its nodes, and the change would depend on each of them.
CREATE OR REPLACE FUNCTION raise_memory_versions(
    p_project_ids text[], p_user_ids text[], p_block_ids uuid[], p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    v_raised record;
BEGIN
    WITH raised AS (
        INSERT INTO memory_users AS u (project_id, user_id, version)
        SELECT s.project_id, s.user_id, memory_next_version(0, p_now)
        FROM (SELECT DISTINCT i.project_id, i.user_id FROM unnest(p_project_ids, p_user_ids) AS i (project_id, user_id)) AS s
        ORDER BY s.project_id, s.user_id
        ON CONFLICT (project_id, user_id) DO UPDATE
        SET version = memory_next_version(u.version, p_now), previous = u.version
        RETURNING u.project_id, u.user_id, u.version, u.previous
    )
    SELECT array_agg(r.project_id) AS projects, array_agg(r.user_id) AS users,
           array_agg(r.version) AS versions, array_agg(r.previous) AS previous
    INTO v_raised FROM raised AS r;
    INSERT INTO memory_changes (project_id, user_id, version, previous, block_ids, has_items)
    SELECT r.project_id, r.user_id, r.version, r.previous,
           coalesce(array_agg(i.block_id) FILTER (WHERE i.block_id IS NOT NULL), '{}'), true
    FROM unnest(v_raised.projects, v_raised.users, v_raised.versions, v_raised.previous)
         AS r (project_id, user_id, version, previous)
    JOIN unnest(p_project_ids, p_user_ids, p_block_ids) AS i (project_id, user_id, block_id)
      ON i.project_id = r.project_id AND i.user_id = r.user_id
    GROUP BY r.project_id, r.user_id, r.version, r.previous;
END $body$;

-- The same for one scope whose row the caller holds; nothing without a row. NULL for the blocks:
-- all of them may have changed.
CREATE OR REPLACE FUNCTION raise_memory_version(
    p_project_id text, p_user_id text, p_block_ids uuid[], p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    v_version bigint;
    v_previous bigint;
BEGIN
    UPDATE memory_users SET version = memory_next_version(version, p_now), previous = version
    WHERE project_id = p_project_id AND user_id = p_user_id
    RETURNING version, previous INTO v_version, v_previous;
    IF FOUND THEN
        INSERT INTO memory_changes (project_id, user_id, version, previous, block_ids, has_items)
        VALUES (p_project_id, p_user_id, v_version, v_previous, p_block_ids, true);
    END IF;
END $body$;

-- Some hosted platforms let anonymous callers run every new function and write every new table; those
-- of this schema are for the service alone. Row-level security does not prevent a TRUNCATE. Others
-- grant nothing by default: end users read their own rows, and the service role works with everything.
DO $grants$
DECLARE
    v_function regprocedure;
    v_table regclass;
    v_role text;
    v_privileges text;
    v_names text[] := ARRAY['memory_block_input', 'memory_migrations', 'memory_users', 'memory_blocks', 'memory_passages',
              'memory_block_revisions', 'memory_relations', 'memory_summaries', 'memory_jobs',
              'memory_workers', 'memory_rate_limits', 'memory_usage', 'memory_api_keys',
              'memory_cache_hours', 'memory_idempotency', 'memory_erasures', 'memory_secrets',
              'memory_circuits', 'memory_embedding_models', 'memory_scope_models',
              'memory_next_passages', 'memory_changes', 'memory_job_pauses', 'memory_webhooks',
              'memory_event_streams', 'memory_events', 'memory_webhook_deliveries', 'memory_partitions', 'memory_partition_moves', 'memory_partition_users',
              'memory_history'];
BEGIN
    FOR v_table, v_role IN
        SELECT c.oid::regclass, r.rolname
        FROM pg_class AS c, pg_roles AS r
        WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind IN ('r', 'v')
          AND c.relname = ANY (v_names)
          AND r.rolname IN ('anon', 'authenticated')
    LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON %s FROM %I',
            v_table, v_role);
    END LOOP;
    FOR v_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('authenticated', 'service_role') LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), v_role);
    END LOOP;
    FOR v_table, v_privileges, v_role IN
        SELECT c.oid::regclass, p.privileges, r.rolname
        FROM pg_class AS c
        JOIN (SELECT polrelid, 'SELECT' AS privileges, 'authenticated' AS role FROM pg_policy
              UNION SELECT t.oid, CASE WHEN t.relname = 'memory_migrations' THEN 'SELECT'
                                       ELSE 'SELECT, INSERT, UPDATE, DELETE' END, 'service_role'
              FROM pg_class AS t) AS p ON p.polrelid = c.oid
        JOIN pg_roles AS r ON r.rolname = p.role
        WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind IN ('r', 'v')
          AND c.relname = ANY (v_names)
    LOOP
        EXECUTE format('GRANT %s ON %s TO %I', v_privileges, v_table, v_role);
    END LOOP;
    FOR v_table, v_role IN
        SELECT s.oid::regclass, r.rolname
        FROM pg_class AS s
        JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.deptype IN ('a', 'i')
        JOIN pg_class AS c ON c.oid = d.refobjid
        JOIN pg_roles AS r ON r.rolname = 'service_role'
        WHERE s.relkind = 'S' AND c.relname = ANY (v_names)
          AND c.relnamespace = quote_ident(current_schema())::regnamespace
    LOOP
        EXECUTE format('GRANT USAGE, SELECT ON SEQUENCE %s TO %I', v_table, v_role);
    END LOOP;
    FOR v_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('authenticated', 'service_role') LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION memory_token_subject() TO %I', v_role);
    END LOOP;
    FOR v_function IN
        SELECT p.oid::regprocedure FROM pg_proc AS p
        WHERE p.pronamespace = quote_ident(current_schema())::regnamespace
          AND p.proname IN ('ingest_memory_blocks', 'enqueue_memory_jobs', 'claim_memory_jobs',
              'complete_memory_jobs', 'complete_memory_enrichments', 'fail_memory_jobs',
              'fail_memory_blocks', 'release_memory_jobs', 'rescue_memory_jobs',
              'drop_memory_jobs', 'memory_waiting_blocks', 'heartbeat_memory_worker', 'get_memory_job_stats', 'retry_memory_jobs',
              'cancel_memory_jobs', 'enqueue_waiting_memory_blocks', 'prune_memory_jobs',
              'check_memory_rate_limit', 'memory_queue_place', 'memory_next_version',
              'raise_memory_versions', 'raise_memory_version',
              'add_memory_cache_counts', 'edit_memory_block', 'delete_memory_block', 'delete_memory_blocks',
              'erase_memory_user', 'memory_user_digest', 'sweep_memory_jobs', 'count_memory_rows',
              'import_memory_rows', 'memory_own_job_id',
              'enter_memory_circuit', 'note_memory_circuit', 'keep_memory_enrichment',
              'enqueue_memory_backfill', 'request_memory_backfill', 'move_memory_vectors',
              'enqueue_memory_reembeds', 'memory_speaker_key', 'store_memory_windows',
              'forget_memory_windows', 'settle_memory_supersession', 'unrelate_memory_block',
              'admit_memory_relations', 'relate_memory_block', 'decide_memory_relation',
              'memory_attempt_errors', 'pause_memory_jobs', 'resume_memory_jobs',
              'write_memory_items', 'drop_memory_item', 'delete_expired_memory_items', 
              'memory_week_blocks', 'stale_memory_summaries', 'store_memory_summary',
              'record_memory_events', 'record_memory_delivery', 'prompt_memory_webhooks',
              'settle_memory_deliveries', 'place_memory_events', 'prune_memory_events',
              'report_failed_memory_jobs', 'subscribe_memory_events', 'add_memory_history',
              'memory_is_distributed', 'settle_memory_functions', 'memory_later', 'store_memory_vectors',
              'begin_memory_ids', 'memory_users_here', 'restrict_memory_partition', 'memory_partition_number')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', v_function);
        FOR v_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %I', v_function, v_role);
        END LOOP;
        FOR v_role IN SELECT rolname FROM pg_roles WHERE rolname = 'service_role' LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', v_function, v_role);
        END LOOP;
    END LOOP;
END $grants$;

SELECT settle_memory_functions();

COMMIT;
