SELECT prefix, project_id, user_id, scopes, name, created_at, last_used_at, revoked_at, key_hash
FROM memory_api_keys WHERE prefix = $1
