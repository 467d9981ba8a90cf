SELECT request_memory_backfill($1, $2, $3) AS changed
