SELECT delete_memory_block($1, $2, $3, $4) AS outcome
