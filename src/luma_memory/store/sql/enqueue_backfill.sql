SELECT enqueue_memory_backfill($1, $2) AS made
