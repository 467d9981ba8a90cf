SELECT id FROM memory_embedding_models WHERE retired_at IS NULL ORDER BY first_used_at, id
