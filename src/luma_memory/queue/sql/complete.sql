-- One array: a row for each job costs the driver more than the jobs did.
SELECT array_agg(id) AS ids FROM complete_memory_jobs($1, $2, $3) AS completed (id)
