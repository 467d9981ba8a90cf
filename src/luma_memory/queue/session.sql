-- name: heartbeat
-- Insert or refresh the worker's row.
SELECT heartbeat_memory_worker($1, $2, $3, $4, $5, $6, $7)

-- name: store_slots
-- How many jobs the worker runs at once; its row exists.
UPDATE memory_workers SET slots = $2 WHERE id = $1

-- name: live_workers
-- Workers with a recent heartbeat that have not stopped.
SELECT id, host, process_id, version, running, started_at, last_seen FROM memory_workers
WHERE stopped_at IS NULL AND last_seen > clock_timestamp() - $1::interval
