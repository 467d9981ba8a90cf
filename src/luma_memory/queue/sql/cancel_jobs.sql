-- The function looks at the states again, with the rows locked.
SELECT id FROM cancel_memory_jobs(p_ids => ARRAY(
    SELECT j.id FROM memory_jobs AS j
    WHERE /*conditions*/
    ORDER BY j.id LIMIT $1::integer), p_limit => $1::integer) AS cancelled (id)
ORDER BY id
