SELECT name, value FROM memory_secrets
