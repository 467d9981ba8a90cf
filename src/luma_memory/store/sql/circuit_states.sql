SELECT name, state FROM memory_circuits
WHERE changed_at > now() - interval '1 day' OR state <> 'closed' ORDER BY name LIMIT 100
