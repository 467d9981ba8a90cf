-- Since when a worker has said its heartbeats without a gap. While the database stood still nobody
-- could end a job, so nobody's lease counts before its holder had time to come back.
ALTER TABLE memory_workers ADD COLUMN steady_since timestamptz NOT NULL DEFAULT '-infinity';
