INSERT INTO memory_api_keys (prefix, key_hash, project_id, user_id, scopes, name)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING prefix, project_id, user_id, scopes, name, created_at, last_used_at, revoked_at
