-- name: add_cache_counts
-- Add hits and misses by full hour.
SELECT add_memory_cache_counts($1, $2, $3)

-- name: sum_cache_counts
-- Hits and misses since an hour.
SELECT coalesce(sum(hits), 0)::bigint AS hits, coalesce(sum(misses), 0)::bigint AS misses
FROM memory_cache_hours WHERE hour >= $1
