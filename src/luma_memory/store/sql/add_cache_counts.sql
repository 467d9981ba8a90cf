SELECT add_memory_cache_counts($1, $2, $3)
