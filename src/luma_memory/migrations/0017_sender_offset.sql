-- Blocks keep the offset from UTC that their time was sent with: "today" is the sender's day.

-- NULL: sent in UTC, without an offset, or by the version before.
ALTER TABLE memory_blocks ADD COLUMN IF NOT EXISTS utc_offset_minutes smallint;
CREATE OR REPLACE VIEW memory_block_input WITH (security_invoker = true) AS
SELECT id, project_id, user_id, content, agent_id, session_id, speaker, source, external_id, metadata,
       occurred_at, expires_at, idempotency_key, content_hash, request_hash, job_id, created_at, updated_at,
       utc_offset_minutes
FROM memory_blocks;
