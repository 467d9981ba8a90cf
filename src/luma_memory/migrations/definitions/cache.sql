-- Add a process's counts since its last call; delete hours older than two days.
CREATE OR REPLACE FUNCTION add_memory_cache_counts(
    p_hours timestamptz[], p_hits bigint[], p_misses bigint[]
) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO memory_cache_hours AS c (hour, hits, misses)
    SELECT i.hour, i.hits, i.misses FROM unnest(p_hours, p_hits, p_misses) AS i (hour, hits, misses)
    ORDER BY i.hour
    ON CONFLICT (hour) DO UPDATE
    SET hits = c.hits + excluded.hits, misses = c.misses + excluded.misses;
    DELETE FROM memory_cache_hours WHERE hour < p_hours[1] - interval '2 days';
END $body$;
