-- A job that a worker claims meanwhile is left to it.
DELETE FROM memory_jobs WHERE id = ANY (ARRAY(
    SELECT j.id FROM memory_jobs AS j
    WHERE /*conditions*/
    ORDER BY j.id LIMIT $1::integer FOR UPDATE SKIP LOCKED))
RETURNING id
