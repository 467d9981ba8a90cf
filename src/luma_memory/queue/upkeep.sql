-- name: prune
-- Delete old finished jobs.
SELECT prune_memory_jobs($1, $2, $3) AS deleted

-- name: schedule_weekly_summaries
-- A job for the week that has ended in each user's own time zone, for users who wrote something in
-- it or later, and one for each ended week whose summary is stale. The unique key names user and week (and
-- since when it is stale), so that schedulers with wrong clocks still make one. $1 the scheduler's now, $2 how
-- many at most of each kind.
--
-- Users' rows are locked before jobs are made for them: one who is being erased at this moment is left
-- out, and does not come back by a job.
WITH ended AS (
    SELECT u.project_id, u.user_id, w.key, w.week_start
    FROM memory_users AS u
    CROSS JOIN LATERAL (
        SELECT date_trunc('week', ($1::timestamptz AT TIME ZONE u.time_zone)) - interval '7 days' AS week_start
    ) AS s
    CROSS JOIN LATERAL (
        SELECT 'weekly_summary:' || to_char(s.week_start, 'IYYY-"W"IW') AS key,
               to_char(s.week_start, 'YYYY-MM-DD') AS week_start
    ) AS w
    WHERE u.last_ingest_at >= s.week_start AT TIME ZONE u.time_zone
      AND NOT EXISTS (SELECT FROM memory_jobs AS j
          WHERE j.project_id = u.project_id AND j.user_id = u.user_id AND j.unique_key = w.key)
    ORDER BY u.project_id, u.user_id
    LIMIT $2
    FOR NO KEY UPDATE OF u SKIP LOCKED
), stale AS (
    SELECT u.project_id, u.user_id, w.key, to_char(s.week_start, 'YYYY-MM-DD') AS week_start
    FROM memory_summaries AS s
    JOIN memory_users AS u ON u.project_id = s.project_id AND u.user_id = s.user_id
    CROSS JOIN LATERAL (
        SELECT 'weekly_summary:' || to_char(s.week_start, 'IYYY-"W"IW') || ':'
               || (extract(epoch FROM s.updated_at) * 1000000)::bigint AS key
    ) AS w
    WHERE s.stale AND s.ends_at <= $1
      AND NOT EXISTS (SELECT FROM memory_jobs AS j
          WHERE j.project_id = s.project_id AND j.user_id = s.user_id AND j.unique_key = w.key)
    ORDER BY u.project_id, u.user_id, s.week_start
    LIMIT $2
    FOR NO KEY UPDATE OF u SKIP LOCKED
), due AS (
    SELECT * FROM ended UNION ALL SELECT * FROM stale
), arrays AS (
    SELECT array_agg(project_id) AS projects, array_agg(user_id) AS users, array_agg(key) AS keys,
           array_agg(jsonb_build_object('week_start', week_start)) AS payloads,
           count(*)::integer AS items
    FROM due
)
SELECT count(e.id) AS made
FROM arrays AS a
LEFT JOIN LATERAL enqueue_memory_jobs(a.projects, a.users,
    array_fill('weekly_summary'::text, ARRAY[a.items]),
    array_fill(NULL::uuid, ARRAY[a.items]), a.payloads,
    array_fill(0, ARRAY[a.items]), array_fill(NULL::timestamptz, ARRAY[a.items]), a.keys
) AS e (id) ON a.items > 0
