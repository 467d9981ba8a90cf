SELECT store_memory_windows($1, $2, $3, $4, $5, $6, $7, $8)
