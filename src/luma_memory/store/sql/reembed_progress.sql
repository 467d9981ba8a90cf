SELECT EXISTS (SELECT FROM memory_embedding_models WHERE id = $1 AND wanted_at IS NOT NULL) AS wanted,
       count(*) AS total,
       count(*) FILTER (WHERE m.embedding_model IN ($1, 'none:' || $1))
           + (SELECT count(*) FROM memory_next_passages AS n WHERE n.model = $1) AS done
FROM memory_passages AS m
WHERE m.ordinal >= 0
