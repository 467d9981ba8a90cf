-- Whether a user has items with a time to live, which a replica may not show (docs/adr/0027-read-replica.md).

-- The scope as a number, as in memory_blocks_item_name: no other statement uses this index by mistake.
CREATE INDEX IF NOT EXISTS memory_blocks_item_ttl ON memory_blocks
    (hashtextextended(user_id, hashtextextended(project_id, 0)))
    WHERE ttl_seconds IS NOT NULL;
