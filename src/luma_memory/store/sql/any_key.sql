SELECT EXISTS (SELECT FROM memory_api_keys) AS present
