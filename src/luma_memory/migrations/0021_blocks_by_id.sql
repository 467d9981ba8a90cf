-- A block is found by its id alone, as interfaces need it that do not name its user. Of an expression, so that
-- no other statement, all of which name the scope, takes this index instead of the key that begins with it.
CREATE INDEX IF NOT EXISTS memory_blocks_id ON memory_blocks (uuid_send(id));
