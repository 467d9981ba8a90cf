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

-- name: highest_position
-- Of the events of this partition.
SELECT coalesce(max(position), 0) AS position FROM memory_events

-- name: continue_positions
-- New positions are behind this one.
SELECT setval('memory_event_positions', $1) FROM memory_event_positions WHERE last_value < $1

-- name: take_positions
-- Numbers for $1 events of any partition.
SELECT nextval('memory_event_positions') AS position FROM generate_series(1, $1)

-- name: lock_positions
-- One caller at a time gives positions: until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtext('place_memory_events'))

-- name: unplaced_events
-- How many committed events have no position yet, up to $1.
SELECT count(*) AS events FROM (SELECT FROM memory_events WHERE position IS NULL LIMIT $1) AS e

-- name: place_at
-- Give the first events without a position these ones, in order; as many as there are of both.
WITH place AS (
    SELECT p.position, p.n FROM unnest($1::bigint[]) WITH ORDINALITY AS p (position, n)
), event AS (
    SELECT e.id, row_number() OVER (ORDER BY e.id) AS n
    FROM (SELECT id FROM memory_events WHERE position IS NULL ORDER BY id LIMIT cardinality($1)
          FOR UPDATE SKIP LOCKED) AS e
)
UPDATE memory_events AS m SET position = p.position
FROM event AS e JOIN place AS p ON p.n = e.n
WHERE m.id = e.id
