-- A model that made no vectors is none to wait for: it was configured once, and nothing came of it.
WITH unused AS (
    UPDATE memory_embedding_models AS u SET retired_at = now()
    WHERE u.id <> $1 AND u.retired_at IS NULL
      AND NOT EXISTS (SELECT FROM memory_passages AS p WHERE p.embedding_model = u.id)
)
INSERT INTO memory_embedding_models AS m (id) VALUES ($1)
ON CONFLICT (id) DO UPDATE SET retired_at = NULL,
    -- One that comes back starts anew: others have been in use for longer.
    first_used_at = CASE WHEN m.retired_at IS NULL THEN m.first_used_at ELSE now() END
