INSERT INTO memory_next_passages AS n (project_id, user_id, block_id, ordinal, revision, model, embedding)
SELECT $1, $2, i.block_id, i.ordinal, i.revision, $3, i.embedding
FROM unnest($4::uuid[], $5::integer[], $6::integer[], $7::halfvec[])
     AS i (block_id, ordinal, revision, embedding)
ON CONFLICT (project_id, user_id, block_id, ordinal) DO UPDATE
SET revision = excluded.revision, model = excluded.model, embedding = excluded.embedding
