SELECT sweep_memory_jobs($1, $2, $3, $4) AS deleted
