SELECT decide_memory_relation($1, $2, $3, $4, $5) AS found
