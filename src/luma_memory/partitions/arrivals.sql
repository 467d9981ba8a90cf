-- name: first_free_id
-- From $1 on, below $2: rows that were created in the partition earlier may have been returned to the home partition.
SELECT greatest($1::bigint, (SELECT max(id) + 1 FROM memory_jobs WHERE id >= $1 AND id < $2),
    (SELECT max(id) + 1 FROM memory_webhook_deliveries WHERE id >= $1 AND id < $2),
    (SELECT max(id) + 1 FROM memory_events WHERE id >= $1 AND id < $2))

-- name: begin_ids
-- Ids of jobs, deliveries, events and revisions from $1 on.
SELECT begin_memory_ids($1)

-- name: continue_revisions
-- The marks are the schemas that users leave, and that they go to.
SELECT setval(pg_get_serial_sequence('/*after*/.memory_block_revisions', 'id'), greatest(a.last_value, b.last_value + 1), true)
FROM (SELECT last_value FROM /*after*/.memory_block_revisions_id_seq) AS a,
     (SELECT last_value FROM /*before*/.memory_block_revisions_id_seq) AS b
