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
