SELECT prune_memory_jobs($1, $2, $3) AS deleted
