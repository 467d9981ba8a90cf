-- Lists of users, sessions and terms.

-- name: page_users_by_activity
-- The last active first. The index has the order of the hours; only the users of one hour are sorted. Users who were
-- last active before the column existed are of no hour, and last.
SELECT /*user_columns*/
FROM (
    SELECT u.* FROM memory_users AS u
    WHERE u.project_id = $1 /*conditions*/
    ORDER BY u.active_hour DESC, coalesce(u.last_ingest_at, '-infinity') DESC, u.user_id COLLATE "C"
    LIMIT $2
) AS u
/*user_counts*/
ORDER BY u.active_hour DESC, coalesce(u.last_ingest_at, '-infinity') DESC, u.user_id COLLATE "C"

-- name: after_activity
-- The users after one of this hour, time and id; NULL is before all times.
AND u.active_hour <= coalesce({0}::timestamptz, '-infinity')
    AND (u.active_hour < coalesce({0}::timestamptz, '-infinity')
         OR coalesce(u.last_ingest_at, '-infinity') < coalesce({1}::timestamptz, '-infinity')
         OR (coalesce(u.last_ingest_at, '-infinity') = coalesce({1}::timestamptz, '-infinity')
             AND u.user_id COLLATE "C" > {2}))

-- name: page_users_by_id
-- In the order of code points.
SELECT /*user_columns*/
FROM (
    SELECT u.* FROM memory_users AS u
    WHERE u.project_id = $1 /*conditions*/
    ORDER BY u.user_id COLLATE "C"
    LIMIT $2
) AS u
/*user_counts*/
ORDER BY u.user_id COLLATE "C"

-- name: user_columns
-- Over memory_users AS u with the counts.
u.user_id, u.time_zone, u.created_at, u.last_ingest_at, nullif(u.active_hour, '-infinity') AS active_hour,
    c.blocks, c.pending, c.failed, c.items, c.is_limited

-- name: user_counts
-- Up to 10,000 rows of each user of the page: a large user costs some milliseconds, and not its size.
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE r.n <= 10000 AND NOT r.is_item) AS blocks,
           count(*) FILTER (WHERE r.n <= 10000 AND NOT r.is_item AND r.status = 'pending_enrichment') AS pending,
           count(*) FILTER (WHERE r.n <= 10000 AND NOT r.is_item AND r.status = 'failed') AS failed,
           count(*) FILTER (WHERE r.n <= 10000 AND r.is_item) AS items,
           count(*) > 10000 AS is_limited
    FROM (SELECT b.status, b.key IS NOT NULL AS is_item, row_number() OVER () AS n
          FROM memory_blocks AS b
          WHERE b.project_id = u.project_id AND b.user_id = u.user_id
            -- An expired item is gone.
            AND (b.key IS NULL OR b.expires_at IS NULL OR b.expires_at > now())
          LIMIT 10001) AS r
) AS c

-- name: page_sessions
-- $3 and $4: the session to continue after. $6 and $7: the first id, and the first one that is not shown.
SELECT s.session_id, s.blocks, s.first_occurred_at, s.last_occurred_at, s.last_created_at
FROM (
    SELECT b.session_id, count(*) AS blocks,
           min(coalesce(b.occurred_at, b.created_at)) AS first_occurred_at,
           max(coalesce(b.occurred_at, b.created_at)) AS last_occurred_at,
           max(b.created_at) AS last_created_at
    FROM memory_blocks AS b
    WHERE b.project_id = $1 AND b.user_id = $2 AND b.session_id IS NOT NULL AND b.key IS NULL
      AND ($6::text IS NULL OR b.session_id COLLATE "C" >= $6) AND ($7::text IS NULL OR b.session_id COLLATE "C" < $7)
    GROUP BY b.session_id
) AS s
WHERE $4::text IS NULL OR s.last_created_at < $3::timestamptz
   OR (s.last_created_at = $3 AND s.session_id COLLATE "C" > $4)
ORDER BY s.last_created_at DESC, s.session_id COLLATE "C"
LIMIT $5

-- name: frequent_terms
-- One row. The newest 10,000 blocks, by the primary key: a large user costs some tens of milliseconds, and not its size.
WITH newest AS MATERIALIZED (
    SELECT b.tags, coalesce(b.occurred_at, b.created_at) AS at
    FROM memory_blocks AS b
    WHERE b.project_id = $1 AND b.user_id = $2 AND b.key IS NULL
      AND (b.expires_at IS NULL OR b.expires_at > now())
    ORDER BY b.id DESC
    LIMIT 10001
), examined AS (
    SELECT n.tags, n.at FROM newest AS n LIMIT 10000
), frequent AS (
    SELECT x.term, count(*) AS blocks, max(e.at) AS last_at
    -- A tag counts once a block.
    FROM examined AS e CROSS JOIN LATERAL (SELECT DISTINCT unnest(e.tags)) AS x (term)
    GROUP BY x.term
    ORDER BY count(*) DESC, max(e.at) DESC, x.term COLLATE "C"
    LIMIT $3
)
SELECT coalesce(array_agg(f.term ORDER BY f.blocks DESC, f.last_at DESC, f.term COLLATE "C"), '{}') AS terms,
       coalesce(array_agg(f.blocks ORDER BY f.blocks DESC, f.last_at DESC, f.term COLLATE "C"), '{}') AS counts,
       coalesce(array_agg(f.last_at ORDER BY f.blocks DESC, f.last_at DESC, f.term COLLATE "C"), '{}') AS last_at,
       (SELECT count(*) FROM examined) AS blocks,
       (SELECT count(*) > 10000 FROM newest) AS is_limited
FROM frequent AS f
