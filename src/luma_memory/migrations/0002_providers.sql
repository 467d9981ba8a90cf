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
