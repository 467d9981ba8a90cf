SELECT time_zone, created_at, last_ingest_at FROM memory_users WHERE project_id = $1 AND user_id = $2
