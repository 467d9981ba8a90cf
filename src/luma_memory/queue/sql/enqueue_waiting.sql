SELECT id FROM enqueue_waiting_memory_blocks($1, $2, $3, $4) AS enqueued (id)
