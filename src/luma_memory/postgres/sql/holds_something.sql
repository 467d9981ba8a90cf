SELECT EXISTS (SELECT FROM memory_users) OR EXISTS (SELECT FROM memory_blocks)
    OR EXISTS (SELECT FROM memory_api_keys) AS holds_something
