SELECT count(*) FROM complete_memory_jobs($1, $2, $3)
