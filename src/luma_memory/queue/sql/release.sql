SELECT array_agg(id) AS ids FROM release_memory_jobs($1, $2, $3, $4) AS released (id)
