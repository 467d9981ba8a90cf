-- Measured twice at once, the first one stays: what was said by it goes on being said.
UPDATE memory_embedding_models SET background_mean = $2, background_deviation = $3
WHERE id = $1 AND background_mean IS NULL
