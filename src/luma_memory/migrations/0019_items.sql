-- Items: blocks that are written and read by a name, each with a JSON value.

DECLARE
    v_name text;
BEGIN

-- A table that was here before the service may use these names for something else.
FOR v_name IN
    SELECT a.attname FROM pg_attribute AS a
    WHERE a.attrelid = 'memory_blocks'::regclass AND NOT a.attisdropped
      AND a.attname IN ('namespace', 'key', 'value', 'name_id', 'position', 'ttl_seconds', 'refresh_on_read')
LOOP
    RAISE WARNING 'Keeping the old column memory_blocks.% as %.', v_name, 'legacy_' || v_name;
    EXECUTE format('ALTER TABLE memory_blocks RENAME COLUMN %I TO %I', v_name, 'legacy_' || v_name);
END LOOP;

ALTER TABLE memory_blocks
    -- NULL in blocks that are no items, as are all the following.
    ADD COLUMN namespace text[],
    ADD COLUMN key text,
    ADD COLUMN value jsonb,
    -- The first half of the SHA-256 of namespace and key, which are too long for an index.
    ADD COLUMN name_id uuid,
    -- Rises with every item that is created in the scope, in the order of commits.
    ADD COLUMN position bigint,
    ADD COLUMN ttl_seconds double precision,
    ADD COLUMN refresh_on_read boolean;
CREATE UNIQUE INDEX memory_blocks_item ON memory_blocks (project_id, user_id, name_id)
    WHERE key IS NOT NULL;
CREATE INDEX memory_blocks_item_position ON memory_blocks (project_id, user_id, position)
    WHERE key IS NOT NULL;
-- One namespace in its order: a session among thousands of others.
CREATE INDEX memory_blocks_item_namespace ON memory_blocks
    (project_id, user_id, hash_array_extended(namespace, 0), position) WHERE key IS NOT NULL;
CREATE INDEX memory_blocks_item_expiry ON memory_blocks (expires_at)
    WHERE key IS NOT NULL AND expires_at IS NOT NULL;

-- Search over blocks leaves these passages out without a look at their blocks.
ALTER TABLE memory_passages ADD COLUMN IF NOT EXISTS item boolean NOT NULL DEFAULT false;

END;
