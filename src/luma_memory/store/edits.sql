-- name: edit_block
-- Change a block that still has revision $4; no row when it has another one or is gone.
SELECT revision
FROM edit_memory_block($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) AS edited (revision)

-- name: delete_block
-- Delete a block and everything that refers to it: deleted, missing or stale.
SELECT delete_memory_block($1, $2, $3, $4) AS outcome

-- name: page_revisions
-- Former versions of a block, newest first.
SELECT r.id, r.revision, r.reason, r.changed_by, r.before, r.created_at
FROM memory_block_revisions AS r
WHERE r.project_id = $1 AND r.user_id = $2 AND r.block_id = $3
  AND ($4::bigint IS NULL OR r.id < $4)
ORDER BY r.id DESC
LIMIT $5
