-- The function takes one argument more, with a default: a call as before is still a call of it. Without
-- this there would be two functions, and such a call would meet the old one.
EXECUTE format('DROP FUNCTION IF EXISTS %I.ingest_memory_blocks(uuid[], text[], text[], text[], text[], text[], text[],
    text[], text[], jsonb[], timestamptz[], timestamptz[], text[], bytea[], bytea[], integer[],
    integer[], integer[], integer[], sparsevec[], integer, interval, text, interval)', current_schema());
