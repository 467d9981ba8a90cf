SELECT enqueue_memory_reembeds($1, $2, $3) AS made
