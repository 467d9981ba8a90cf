-- Enqueue detections for active blocks that never had one, in order of their keys after ($3, $4, $5), behind
-- those of fresh blocks. $1, $2: of one project or user, or NULL; $6 at most, $7 attempts, $8 whether it only
-- counts. The key is the one that a block brings when it becomes active: who has such a job gets no second.
WITH page AS (
    SELECT b.project_id, b.user_id, b.id, b.revision FROM memory_blocks AS b
    WHERE b.status = 'active' AND b.related_at IS NULL
      AND ($1::text IS NULL OR b.project_id = $1) AND ($2::text IS NULL OR b.user_id = $2)
      AND (b.project_id, b.user_id, b.id) > ($3, $4, $5)
    ORDER BY b.project_id, b.user_id, b.id LIMIT $6
), fresh AS (
    SELECT p.*, 'detect_relations:' || p.id || ':' || p.revision AS key
    FROM page AS p
    WHERE NOT EXISTS (
        SELECT FROM memory_jobs AS j
        WHERE j.project_id = p.project_id AND j.user_id = p.user_id
          AND j.unique_key = 'detect_relations:' || p.id || ':' || p.revision)
), jobs AS (
    SELECT array_agg(f.project_id ORDER BY f.id) AS projects, array_agg(f.user_id ORDER BY f.id) AS users,
           array_agg(f.id ORDER BY f.id) AS blocks, array_agg(f.key ORDER BY f.id) AS keys,
           count(*)::integer AS count
    FROM fresh AS f
)
SELECT (SELECT count(*) FROM page) AS seen, last.project_id, last.user_id, last.id,
       CASE WHEN $8 OR j.count = 0 THEN j.count ELSE (
           SELECT count(*)::integer FROM enqueue_memory_jobs(j.projects, j.users,
               array_fill('detect_relations'::text, ARRAY[j.count]), j.blocks,
               array_fill(NULL::jsonb, ARRAY[j.count]), array_fill(-6, ARRAY[j.count]),
               array_fill(NULL::timestamptz, ARRAY[j.count]), j.keys, $7, '0 ms'))
       END AS enqueued
FROM jobs AS j
CROSS JOIN (SELECT p.* FROM page AS p ORDER BY p.project_id DESC, p.user_id DESC, p.id DESC LIMIT 1) AS last
