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
