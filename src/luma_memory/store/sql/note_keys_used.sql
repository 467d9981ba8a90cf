-- In order of the prefix, so that two processes cannot deadlock.
UPDATE memory_api_keys AS k SET last_used_at = now()
FROM (SELECT prefix FROM memory_api_keys
      WHERE prefix = ANY ($1::text[]) ORDER BY prefix FOR UPDATE) AS used
WHERE k.prefix = used.prefix
