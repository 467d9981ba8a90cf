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
