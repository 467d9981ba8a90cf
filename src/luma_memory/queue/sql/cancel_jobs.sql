-- The function looks at the states again, with the rows locked.
SELECT id FROM cancel_memory_jobs(p_ids => ARRAY(
    SELECT j.id FROM memory_jobs AS j
    WHERE /*states*/ AND /*match*/
    ORDER BY j.id LIMIT $12::integer), p_limit => $12::integer) AS cancelled (id)
ORDER BY id
