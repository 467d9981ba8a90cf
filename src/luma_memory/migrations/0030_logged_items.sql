-- The log of changes names items as well, so that copies of a scope can hold them.

ALTER TABLE memory_changes
    -- Whether block_ids has the items among the changed blocks. False by an earlier version's functions, whose
    -- entries leave out the items that are put and deleted.
    ADD COLUMN IF NOT EXISTS has_items boolean NOT NULL DEFAULT false;
