-- A job that a worker claims meanwhile is left to it.
DELETE FROM memory_jobs WHERE id = ANY (ARRAY(
    SELECT j.id FROM memory_jobs AS j
    WHERE /*states*/ AND /*match*/
    ORDER BY j.id LIMIT $12::integer FOR UPDATE SKIP LOCKED))
RETURNING id
