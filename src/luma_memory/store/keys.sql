-- name: list_keys
-- Keys of one project or of all, oldest first.
SELECT prefix, project_id, user_id, scopes, name, created_at, last_used_at, revoked_at
FROM memory_api_keys
WHERE ($1::text IS NULL OR project_id = $1)
ORDER BY created_at, prefix

-- name: page_keys
-- Newest first. $4 and $5: the key to continue after.
SELECT prefix, project_id, user_id, scopes, name, created_at, last_used_at, revoked_at
FROM memory_api_keys
WHERE project_id = $1
  AND ($2::text IS NULL OR user_id = $2)
  AND ($3::boolean OR revoked_at IS NULL)
  AND ($4::timestamptz IS NULL OR (created_at, prefix) < ($4, $5::text))
ORDER BY created_at DESC, prefix DESC
LIMIT $6

-- name: note_keys_used
-- In order of the prefix, so that two processes cannot deadlock.
UPDATE memory_api_keys AS k SET last_used_at = used.now
FROM (SELECT prefix, now() AS now FROM memory_api_keys
      WHERE prefix = ANY ($1::text[]) ORDER BY prefix FOR UPDATE) AS used
WHERE k.prefix = used.prefix

-- name: create_key
-- Store a new API key.
INSERT INTO memory_api_keys (prefix, key_hash, project_id, user_id, scopes, name)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING prefix, project_id, user_id, scopes, name, created_at, last_used_at, revoked_at

-- name: revoke_key
-- Revoke a key for good; repeating it keeps the first instant.
UPDATE memory_api_keys AS k SET revoked_at = coalesce(k.revoked_at, t.now)
FROM (SELECT now() AS now OFFSET 0) AS t
WHERE k.prefix = $1
RETURNING prefix, project_id, user_id, scopes, name, created_at, last_used_at, revoked_at

-- name: find_key
-- A key with its hash, revoked ones included.
SELECT prefix, project_id, user_id, scopes, name, created_at, last_used_at, revoked_at, key_hash
FROM memory_api_keys WHERE prefix = $1

-- name: any_key
-- Whether any key was ever created, revoked ones included.
SELECT EXISTS (SELECT FROM memory_api_keys) AS present
