-- What recall answers has changed.
UPDATE memory_users SET version = memory_next_version(version, now())
WHERE project_id = $1 AND user_id = $2
