SELECT array_agg(id) AS ids FROM drop_memory_jobs($1, $2, $3, $4) AS dropped (id)
