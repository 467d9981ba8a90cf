-- Relations, supersession and weekly summaries. Everything here is added; the code of the version before
-- works on beside it.

ALTER TABLE memory_blocks
    -- When its relations were looked for last: what the limit of an hour is counted by, beside
    -- memory_rate_limits, so that neither alone can be lost.
    ADD COLUMN IF NOT EXISTS related_at timestamptz;
CREATE INDEX IF NOT EXISTS memory_blocks_related ON memory_blocks (project_id, user_id, related_at)
    WHERE related_at IS NOT NULL;

ALTER TABLE memory_relations
    -- Who accepted or rejected it, where that was not left to the one who found it.
    ADD COLUMN IF NOT EXISTS decided_by text;

ALTER TABLE memory_summaries
    -- The window it was made of. A user's later change of time zone moves the weeks to come, and not
    -- the ones that are told already.
    ADD COLUMN IF NOT EXISTS time_zone text NOT NULL DEFAULT 'UTC',
    ADD COLUMN IF NOT EXISTS starts_at timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN IF NOT EXISTS ends_at timestamptz NOT NULL DEFAULT '-infinity',
    -- What is new or over, beside the week before; NULL where that has no summary.
    ADD COLUMN IF NOT EXISTS comparison text;
CREATE INDEX IF NOT EXISTS memory_summaries_stale ON memory_summaries (ends_at) WHERE stale;
