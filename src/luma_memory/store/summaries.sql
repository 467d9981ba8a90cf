-- name: read_week
-- A week's blocks in order of time, the $5 most important of them, and the summary of the week before.
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

-- name: store_summary
-- Store a week's summary if its blocks are unchanged: stored, changed or lost.
SELECT store_memory_summary($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) AS outcome

-- name: page_summaries
-- Newest week first; $4 and $5 are the first and the last week.
SELECT s.id, s.week_start, s.time_zone, s.starts_at, s.ends_at, s.text, s.highlights, s.comparison,
       s.block_ids, s.model, s.stale, s.created_at, s.updated_at
FROM memory_summaries AS s
WHERE s.project_id = $1 AND s.user_id = $2
  AND ($3::date IS NULL OR s.week_start < $3)
  AND ($4::date IS NULL OR s.week_start >= $4)
  AND ($5::date IS NULL OR s.week_start <= $5)
ORDER BY s.week_start DESC
LIMIT $6
