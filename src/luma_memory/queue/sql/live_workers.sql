-- Workers seen lately that did not say goodbye.
SELECT id, host, process_id, version, running, started_at, last_seen FROM memory_workers
WHERE stopped_at IS NULL AND last_seen > clock_timestamp() - $1::interval
