-- $1 model; no row where nothing was measured yet.
SELECT background_mean AS mean, background_deviation AS deviation FROM memory_embedding_models
WHERE id = $1 AND background_mean IS NOT NULL AND background_deviation IS NOT NULL
