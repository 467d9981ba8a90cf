-- History of the service's numbers.

-- name: add_history
-- The counts of one process.
SELECT add_memory_history($1, $2) AS began

-- name: read_history
-- At most 1,441 rows.
SELECT at, sums, peaks FROM memory_history
WHERE resolution = $1 AND at >= $2 AND at < $3
ORDER BY at
