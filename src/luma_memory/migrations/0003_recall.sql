-- What recall ranks by beside words and vectors: who spoke, and what was said around it.

-- The speaker's name as two hashes (memory_speaker_key); NULL in rows that are older than this column,
-- until their session is looked at again.
ALTER TABLE memory_passages ADD COLUMN speaker_key bigint;

-- A session in its order: its turns are read together when their windows are embedded.
CREATE INDEX memory_blocks_session
    ON memory_blocks (project_id, user_id, session_id, (coalesce(occurred_at, created_at)), id)
    WHERE session_id IS NOT NULL;

-- Few blocks are superseded, and every search leaves them out.
CREATE INDEX memory_blocks_superseded ON memory_blocks (project_id, user_id, id)
    WHERE superseded_at IS NOT NULL;

-- Sessions that are already stored get their windows in the background, after everything else. Blocks
-- that wait for enrichment bring their sessions to attention themselves.
INSERT INTO memory_jobs (project_id, user_id, job_type, payload, priority, fair_at)
SELECT u.project_id, u.user_id, 'reembed', '{"sessions": "all"}', -20, now()
FROM memory_users AS u
WHERE EXISTS (SELECT FROM memory_blocks AS b
              WHERE b.project_id = u.project_id AND b.user_id = u.user_id
                AND b.session_id IS NOT NULL AND b.status = 'active');
