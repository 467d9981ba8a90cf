-- Claims and write-backs touch fewer rows.

-- Jobs that may have ended their worker run alone, and every claim asks whether one does.
CREATE INDEX IF NOT EXISTS memory_jobs_alone ON memory_jobs (locked_by)
    WHERE status = 'processing' AND error_class = 'poison' AND attempts = max_attempts;
-- Each block is written twice, at the door and by its worker. Where there is room beside it in its page
-- (for half of the blocks, measured on chat turns) the second writing enters none of the table's
-- indexes. Pages that are full stay as they are.
ALTER TABLE memory_blocks SET (fillfactor = 50);
