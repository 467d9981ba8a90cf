-- Health names providers that are away, and since when.
ALTER TABLE memory_circuits
    -- When the first of the failures in a row was noted; NULL while calls succeed.
    ADD COLUMN IF NOT EXISTS failing_since timestamptz;
