-- An item is found by its name without reading its user's other items.

-- Until the table is analyzed for the first time, every index that begins with the scope costs the planner the
-- same, and a write read all items of its user. Here the scope is a number, which no other index begins with
-- (0012 did the same for repeated blocks).
-- Not unique: two users may share the number (memory_blocks_item keeps names unique within a user).
CREATE INDEX IF NOT EXISTS memory_blocks_item_name ON memory_blocks
    (hashtextextended(user_id, hashtextextended(project_id, 0)), name_id)
    WHERE key IS NOT NULL;
