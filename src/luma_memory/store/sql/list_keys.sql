SELECT prefix, project_id, user_id, scopes, name, created_at, last_used_at, revoked_at
FROM memory_api_keys
WHERE ($1::text IS NULL OR project_id = $1)
ORDER BY created_at, prefix
