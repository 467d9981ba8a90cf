-- What a client may say of a block is listed once.

-- The columns that accepting a block fills; the others of memory_blocks have defaults. A migration that
-- adds such a field adds its column to the table and, at the end, to this view. It has to accept NULL:
-- the version before does not know it.
CREATE OR REPLACE VIEW memory_block_input WITH (security_invoker = true) AS
SELECT id, project_id, user_id, content, agent_id, session_id, speaker, source, external_id, metadata,
       occurred_at, expires_at, idempotency_key, content_hash, request_hash, job_id, created_at, updated_at
FROM memory_blocks;
