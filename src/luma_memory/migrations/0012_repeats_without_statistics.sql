-- A block that is sent again is found without reading its user's other blocks.

-- Until the table is analyzed for the first time, an index that begins with the scope costs the
-- planner as much as the primary key, which does too, and with that all blocks of the user were read.
-- Here the scope stands as a number, of which the primary key knows nothing.
-- memory_blocks_content, which nothing uses any more, goes with a later version: to drop an index means
-- to wait for everybody who reads the table, after its writers wait for this one.
CREATE INDEX IF NOT EXISTS memory_blocks_said ON memory_blocks
    (content_hash, hashtextextended(user_id, hashtextextended(project_id, 0)))
    WHERE external_id IS NULL;
