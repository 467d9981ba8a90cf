-- Newest first. $3 continues before an id; $4 of one block, $5 of a type, $6 in a state, $7 this one alone.
SELECT r.id, r.source_id, r.target_id, r.type, r.confidence, r.evidence, r.model, r.status, r.decided_by,
       r.created_at, r.updated_at
FROM memory_relations AS r
WHERE r.project_id = $1 AND r.user_id = $2
  AND ($3::uuid IS NULL OR r.id < $3)
  AND ($4::uuid IS NULL OR r.source_id = $4 OR r.target_id = $4)
  AND ($5::text IS NULL OR r.type = $5)
  AND ($6::text IS NULL OR r.status = $6)
  AND ($7::uuid IS NULL OR r.id = $7)
ORDER BY r.id DESC
LIMIT $8
