-- What a block was, newest first.
SELECT r.id, r.revision, r.reason, r.changed_by, r.before, r.created_at
FROM memory_block_revisions AS r
WHERE r.project_id = $1 AND r.user_id = $2 AND r.block_id = $3
  AND ($4::bigint IS NULL OR r.id < $4)
ORDER BY r.id DESC
LIMIT $5
