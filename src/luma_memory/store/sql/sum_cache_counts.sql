SELECT coalesce(sum(hits), 0)::bigint AS hits, coalesce(sum(misses), 0)::bigint AS misses
FROM memory_cache_hours WHERE hour >= $1
