-- History of the service's numbers ----------------------------------------------------------------

-- Add what one process counted since its last call to the current minute and hour, by this server's clock: the
-- clocks of processes differ. Counts add up, of states the highest is kept. True for the process that began the
-- minute: it alone adds the states, which are those of the whole installation. Beginning a minute also deletes
-- what is older than a day, or 30 days for hours, so there are never more rows than 1,441 and 721.
CREATE OR REPLACE FUNCTION add_memory_history(
    p_sums jsonb, p_peaks jsonb, p_now timestamptz DEFAULT clock_timestamp()
) RETURNS boolean LANGUAGE plpgsql AS $body$
DECLARE
    v_resolution text;
    v_began boolean;
    v_began_minute boolean;
BEGIN
    FOREACH v_resolution IN ARRAY ARRAY['minute', 'hour'] LOOP
        INSERT INTO memory_history AS h (resolution, at, sums, peaks)
        VALUES (v_resolution, date_trunc(v_resolution, p_now, 'UTC'), p_sums, p_peaks)
        ON CONFLICT (resolution, at) DO UPDATE SET
            sums = h.sums || coalesce((
                SELECT jsonb_object_agg(e.key, coalesce((h.sums ->> e.key)::numeric, 0) + e.value::numeric)
                FROM jsonb_each_text(excluded.sums) AS e), '{}'),
            peaks = h.peaks || coalesce((
                SELECT jsonb_object_agg(e.key, greatest((h.peaks ->> e.key)::numeric, e.value::numeric))
                FROM jsonb_each_text(excluded.peaks) AS e), '{}')
        RETURNING xmax = 0 INTO v_began;
        v_began_minute := coalesce(v_began_minute, v_began);
    END LOOP;
    IF v_began_minute THEN
        DELETE FROM memory_history
        WHERE (resolution = 'minute' AND at < p_now - interval '1 day' - interval '1 minute')
           OR (resolution = 'hour' AND at < p_now - interval '30 days' - interval '1 hour');
    END IF;
    RETURN v_began_minute;
END $body$;
