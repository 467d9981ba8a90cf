SELECT id, status FROM fail_memory_jobs($1, $2, $3, $4, $5, $6, $7)
