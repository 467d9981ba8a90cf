-- Only for blocks that are there: what is erased meanwhile does not come back.
WITH known AS (
    SELECT b.id FROM memory_blocks AS b
    WHERE b.project_id = $1 AND b.user_id = $2 AND b.id = ANY ($4::uuid[])
    ORDER BY b.id FOR KEY SHARE
)
INSERT INTO memory_next_passages AS n (project_id, user_id, block_id, ordinal, revision, model, embedding)
SELECT $1, $2, i.block_id, i.ordinal, i.revision, $3, i.embedding
FROM unnest($4::uuid[], $5::integer[], $6::integer[], $7::halfvec[])
     AS i (block_id, ordinal, revision, embedding)
JOIN known AS k ON k.id = i.block_id
ON CONFLICT (project_id, user_id, block_id, ordinal) DO UPDATE
SET revision = excluded.revision, model = excluded.model, embedding = excluded.embedding
