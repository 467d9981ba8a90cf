-- name: read_secrets
-- Secrets that all processes of an installation share.
SELECT name, value FROM memory_secrets
