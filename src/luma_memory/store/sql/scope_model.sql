SELECT model FROM memory_scope_models WHERE project_id = $1 AND user_id = $2
