SELECT name, count FROM count_memory_rows($1, $2)
