SELECT is_mine, granted, retry_at, is_news FROM admit_memory_relations($1, $2, $3, $4, $5)
