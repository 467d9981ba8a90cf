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
