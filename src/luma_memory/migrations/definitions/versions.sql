-- The version of a scope after a change at p_now: what a cached answer is checked against.
--
-- It follows the clock (microseconds), and not only a counter, so that a number never comes twice with
-- other contents: not after a user was erased and came back, not after a crash undid the last
-- transaction, not after the database was restored from a backup. Whoever changes by hand what recall can
-- answer says so: UPDATE memory_users SET version = memory_next_version(version, now()) WHERE ...
CREATE OR REPLACE FUNCTION memory_next_version(p_version bigint, p_now timestamptz)
RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $body$
    SELECT greatest(p_version + 1, (extract(epoch FROM p_now) * 1000000)::bigint)
$body$;
