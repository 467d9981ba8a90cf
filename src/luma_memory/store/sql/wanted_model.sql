SELECT id FROM memory_embedding_models WHERE wanted_at IS NOT NULL LIMIT 1
