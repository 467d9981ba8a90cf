-- The function looks at the states again, with the rows locked. The sum keeps the planner from
-- walking the primary key over all completed jobs instead of reading the few that have failed.
SELECT id FROM retry_memory_jobs(p_ids => ARRAY(
    SELECT j.id FROM memory_jobs AS j
    WHERE /*conditions*/
    ORDER BY j.id + 0 LIMIT $1::integer), p_limit => $1::integer) AS retried (id)
ORDER BY id
