-- A week's blocks in order of time, the weightiest $5 of them, and what was told of the week before.
-- $3, $4 the window, $6 the week before.
SELECT w.*, (SELECT s.text FROM memory_summaries AS s
             WHERE s.project_id = $1 AND s.user_id = $2 AND s.week_start = $6) AS before
FROM (VALUES (true)) AS one (line)
LEFT JOIN (
    SELECT b.id, b.revision, coalesce(b.occurred_at, b.created_at) AS occurred_at, b.content,
           b.speaker, b.title, b.summary, b.tags, coalesce(b.importance, 0.3) AS importance
    FROM memory_week_blocks($1, $2, $3, $4) AS m
    JOIN memory_blocks AS b ON b.project_id = $1 AND b.user_id = $2 AND b.id = m.id
    ORDER BY coalesce(b.importance, 0.3) DESC, b.id
    LIMIT $5
) AS w ON true
ORDER BY w.occurred_at, w.id
