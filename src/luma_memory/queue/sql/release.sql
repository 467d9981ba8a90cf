SELECT release_memory_jobs($1, $2, $3, $4)
