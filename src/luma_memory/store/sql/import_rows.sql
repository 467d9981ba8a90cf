SELECT import_memory_rows($1, $2, $3, $4) AS stored
