-- name: session_turns
-- Turns of a session in order, from a place on, each with the window that ends with it.
--
-- $3 session, ($4, $5) the place: time and block, $6 how many turns from there on, $7 how many before it,
-- $8 how much of each text.
WITH turn AS (
    (SELECT b.id, coalesce(b.occurred_at, b.created_at) AS at, b.revision, b.speaker,
            left(b.content, $8) AS text, false AS is_before
     FROM memory_blocks AS b
     WHERE b.project_id = $1 AND b.user_id = $2 AND b.session_id = $3
       AND (coalesce(b.occurred_at, b.created_at), b.id) >= ($4::timestamptz, $5::uuid)
     ORDER BY coalesce(b.occurred_at, b.created_at), b.id LIMIT $6)
    UNION ALL
    (SELECT b.id, coalesce(b.occurred_at, b.created_at), b.revision, b.speaker,
            left(b.content, $8), true
     FROM memory_blocks AS b
     WHERE b.project_id = $1 AND b.user_id = $2 AND b.session_id = $3
       AND (coalesce(b.occurred_at, b.created_at), b.id) < ($4::timestamptz, $5::uuid)
     ORDER BY coalesce(b.occurred_at, b.created_at) DESC, b.id DESC LIMIT $7)
)
SELECT t.*, w.stop_at AS fingerprint, w.embedding_model
FROM turn AS t
LEFT JOIN memory_passages AS w
  ON w.project_id = $1 AND w.user_id = $2 AND w.block_id = t.id AND w.ordinal = -1
ORDER BY t.at, t.id

-- name: list_sessions
-- Names of a scope's sessions after $3, in order: each is one step into the index, however many
-- turns it has.
WITH RECURSIVE session AS (
    (SELECT b.session_id FROM memory_blocks AS b
     WHERE b.project_id = $1 AND b.user_id = $2 AND b.session_id > $3
     ORDER BY b.session_id LIMIT 1)
    UNION ALL
    SELECT (SELECT b.session_id FROM memory_blocks AS b
            WHERE b.project_id = $1 AND b.user_id = $2 AND b.session_id > s.session_id
            ORDER BY b.session_id LIMIT 1)
    FROM session AS s WHERE s.session_id IS NOT NULL
)
SELECT session_id FROM session WHERE session_id IS NOT NULL LIMIT $4

-- name: store_windows
-- Store windows of session turns and delete obsolete windows.
SELECT store_memory_windows($1, $2, $3, $4, $5, $6, $7, $8)
