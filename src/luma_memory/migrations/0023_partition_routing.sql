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
