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
