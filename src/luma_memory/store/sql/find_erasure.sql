SELECT id, counts, started_at, erased_at FROM memory_erasures
WHERE project_id = $1 AND user_digest = memory_user_digest($1, $2)
  AND ($3::uuid IS NULL OR id = $3) AND ($4::bytea IS NULL OR key_digest = $4)
