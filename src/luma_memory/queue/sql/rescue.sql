SELECT rescue_memory_jobs($1) AS rescued
