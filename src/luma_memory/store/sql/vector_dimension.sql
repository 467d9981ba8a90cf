-- How many numbers the user's vectors of a model have; no row without any.
SELECT vector_dims(embedding) AS dimension
FROM memory_passages
WHERE project_id = $1 AND user_id = $2 AND embedding_model = $3 AND embedding IS NOT NULL
LIMIT 1
