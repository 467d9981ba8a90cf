-- Accepted relations of some blocks that say how they are related, the surest first.
SELECT r.source_id, r.target_id, r.type, r.confidence FROM memory_relations AS r
WHERE r.project_id = $1 AND r.user_id = $2 AND r.status = 'accepted' AND r.type <> 'related'
  AND (r.source_id = ANY ($3) OR r.target_id = ANY ($3))
ORDER BY r.confidence DESC, r.id
LIMIT $4
