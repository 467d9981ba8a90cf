SELECT counts, erased_at FROM erase_memory_user($1, $2, $3, $4, $5, $6, $7, $8)
