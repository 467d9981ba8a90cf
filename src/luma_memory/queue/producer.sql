-- name: enqueue
-- Enqueue jobs; a job whose unique key exists already is skipped.
SELECT enqueue_memory_jobs($1, $2, $3, $4, $5, $6, $7, $8, $9) AS id
