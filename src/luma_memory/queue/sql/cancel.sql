SELECT cancel_memory_jobs(p_ids => $1)
