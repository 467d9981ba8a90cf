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
