INSERT INTO memory_secrets (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING
