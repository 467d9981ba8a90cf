INSERT INTO memory_embedding_models AS m (id) VALUES ($1)
ON CONFLICT (id) DO UPDATE SET retired_at = NULL,
    -- One that comes back starts anew: others have been in use for longer.
    first_used_at = CASE WHEN m.retired_at IS NULL THEN m.first_used_at ELSE now() END
