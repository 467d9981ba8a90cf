SELECT heartbeat_memory_worker($1, $2, $3, $4, $5, $6, $7)
