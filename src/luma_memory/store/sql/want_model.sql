WITH others AS (
    UPDATE memory_embedding_models SET wanted_at = NULL WHERE id <> $1 AND wanted_at IS NOT NULL
)
INSERT INTO memory_embedding_models AS m (id, wanted_at) VALUES ($1, now())
ON CONFLICT (id) DO UPDATE SET retired_at = NULL, wanted_at = coalesce(m.wanted_at, now())
