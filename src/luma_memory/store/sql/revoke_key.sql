UPDATE memory_api_keys SET revoked_at = coalesce(revoked_at, now())
WHERE prefix = $1
RETURNING prefix, project_id, user_id, scopes, name, created_at, last_used_at, revoked_at
