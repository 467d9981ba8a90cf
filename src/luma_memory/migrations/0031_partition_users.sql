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
