-- Which partition has a user, and what a partition may hold.

-- The partition of a user among p_count of them. The first six bytes of SHA-256 over project, a zero byte and
-- user, as a number, modulo the count: as the service computes it (domain.partition).
CREATE OR REPLACE FUNCTION memory_partition_number(p_project_id text, p_user_id text, p_count integer)
RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT ((('x' || lpad(encode(substring(sha256(convert_to(p_project_id, 'UTF8') || '\x00'::bytea
        || convert_to(p_user_id, 'UTF8')) FOR 6), 'hex'), 16, '0'))::bit(64)::bigint) % p_count)::integer
$body$;

-- From now on, this partition holds only users that are its own: a process that knows another number of
-- partitions cannot store a user where no process looks for them. A check of each written row of memory_users,
-- about a microsecond. Repeating it changes nothing.
CREATE OR REPLACE FUNCTION restrict_memory_partition(p_number integer, p_count integer)
RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint
                   WHERE conrelid = 'memory_users'::regclass AND conname = 'memory_users_partition') THEN
        EXECUTE format('ALTER TABLE memory_users ADD CONSTRAINT memory_users_partition
            CHECK (memory_partition_number(project_id, user_id, %s) = %s)', p_count, p_number);
    END IF;
END $body$;

-- New jobs, deliveries, events and revisions of this partition have ids from p_first on: unique among all
-- partitions.
CREATE OR REPLACE FUNCTION begin_memory_ids(p_first bigint)
RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    v_sequence text;
    v_last bigint;
BEGIN
    FOREACH v_sequence IN ARRAY ARRAY['memory_jobs_id_seq', 'memory_webhook_deliveries_id_seq',
                                      'memory_events_id_seq', 'memory_block_revisions_id_seq'] LOOP
        EXECUTE format('SELECT last_value FROM %I', v_sequence) INTO v_last;
        IF v_last < p_first THEN
            PERFORM setval(v_sequence::regclass, p_first, false);
        END IF;
    END LOOP;
END $body$;

-- Whether this partition still has each of these users, and whether none of them is being moved at this moment.
-- A transaction that moves a user holds the lock of the user until its end: one that is committed before the
-- lock is free is seen by the second statement.
CREATE OR REPLACE FUNCTION memory_users_here(p_projects text[], p_users text[])
RETURNS TABLE (is_here boolean, is_free boolean) LANGUAGE plpgsql VOLATILE AS $body$
DECLARE
    v_free boolean[];
BEGIN
    v_free := ARRAY(SELECT pg_try_advisory_xact_lock_shared(hashtextextended(u.p || chr(1) || u.u, 31))
        FROM unnest(p_projects, p_users) WITH ORDINALITY AS u (p, u, n) ORDER BY u.n);
    RETURN QUERY SELECT EXISTS (SELECT FROM memory_partition_users AS m
                                WHERE m.project_id = u.p AND m.user_id = u.u), v_free[u.n]
        FROM unnest(p_projects, p_users) WITH ORDINALITY AS u (p, u, n) ORDER BY u.n;
END $body$;
