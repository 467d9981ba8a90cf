-- name: subscribe
-- Record the events of a project.
SELECT subscribe_memory_events($1, $2) AS gone_until

-- name: place_events
-- Give committed events their positions.
SELECT place_memory_events($1) AS placed

-- name: last_position
-- Of any project.
SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS position FROM memory_event_positions

-- name: read_events
-- Events after a position, and the last position that this statement sees.
SELECT e.event_id, e.type, e.project_id, e.user_id, e.block_id, e.data,
       e.created_at AS event_created_at, coalesce(e.position, l.position) AS position,
       l.position AS last
FROM (SELECT coalesce(max(position), 0) AS position FROM memory_events WHERE project_id = $1) AS l
LEFT JOIN LATERAL (
    SELECT * FROM memory_events AS m
    WHERE m.project_id = $1 AND m.position > $2 AND ($3::text IS NULL OR m.user_id = $3)
      AND (cardinality($4::text[]) = 0 OR m.type = ANY ($4))
    ORDER BY m.position LIMIT $5
) AS e ON true
ORDER BY e.position
