SELECT move_memory_vectors($1, $2, $3) AS moved
