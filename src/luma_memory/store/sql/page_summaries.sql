SELECT s.id, s.week_start, s.time_zone, s.starts_at, s.ends_at, s.text, s.highlights, s.comparison,
       s.block_ids, s.model, s.stale, s.created_at, s.updated_at
FROM memory_summaries AS s
WHERE s.project_id = $1 AND s.user_id = $2
  AND ($3::date IS NULL OR s.week_start < $3)
  AND ($4::date IS NULL OR s.week_start = $4)
ORDER BY s.week_start DESC
LIMIT $5
