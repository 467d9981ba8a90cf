-- Blocks that are sent again are recognised at the door.

ALTER TABLE memory_blocks
    -- How often it was sent again, after the first time.
    ADD COLUMN IF NOT EXISTS repeat_count integer NOT NULL DEFAULT 0;
-- Blocks with a name of the client's own are told apart by that.
CREATE INDEX IF NOT EXISTS memory_blocks_content ON memory_blocks (project_id, user_id, content_hash)
    WHERE external_id IS NULL;
ALTER TABLE memory_idempotency
    -- Of the block that the request said again, as it stood then; NULL where the request made it.
    ADD COLUMN IF NOT EXISTS block_status text;
-- One argument more, with a default: a call as before is still a call of it, and returns what it did first.
EXECUTE format('DROP FUNCTION IF EXISTS %I.ingest_memory_blocks(uuid[], text[], text[], text[], text[], text[], text[],
    text[], text[], jsonb[], timestamptz[], timestamptz[], text[], bytea[], bytea[], integer[],
    integer[], integer[], integer[], sparsevec[], integer, interval, text, interval, text[])', current_schema());
