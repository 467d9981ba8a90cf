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
