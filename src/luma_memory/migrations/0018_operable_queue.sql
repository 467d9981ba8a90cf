-- The queue can be paused, tells what each attempt ended with, and counts as processing what runs.
ALTER TABLE memory_jobs
    -- The last ten failed attempts, oldest first: attempt, at, worker, error_class, message.
    ADD COLUMN IF NOT EXISTS attempt_errors jsonb NOT NULL DEFAULT '[]';
ALTER TABLE memory_workers
    -- Jobs it runs at once. NULL for workers of earlier versions.
    ADD COLUMN IF NOT EXISTS slots integer;
-- Job types that no worker claims; 'all' is the whole queue. Almost always empty, and read once a claim.
CREATE TABLE IF NOT EXISTS memory_job_pauses (
    job_type text PRIMARY KEY
        CHECK (job_type IN ('all', 'enrich_and_embed', 'detect_relations', 'weekly_summary', 'reembed')),
    paused_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE memory_job_pauses ENABLE ROW LEVEL SECURITY;
