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
