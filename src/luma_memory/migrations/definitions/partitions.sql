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

-- Whether this schema is placed on a node by Citus, and this session is at the coordinator.
CREATE OR REPLACE FUNCTION memory_is_distributed()
RETURNS boolean LANGUAGE plpgsql STABLE AS $body$
DECLARE
    v_found boolean;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        RETURN false;
    END IF;
    -- Not planned unless there is Citus.
    EXECUTE 'SELECT EXISTS (SELECT FROM citus_schemas WHERE schema_name = quote_ident(current_schema())::regnamespace)
             AND (SELECT groupid = 0 FROM pg_dist_local_group)' INTO v_found;
    RETURN v_found;
END $body$;

-- Where Citus has placed this schema: make each function run on the node that has it, called there with names that
-- lead to this schema (the search_path of a session stays at the coordinator). Elsewhere it does nothing. Every
-- migration ends with it, as it defines the functions again.
CREATE OR REPLACE FUNCTION settle_memory_functions()
RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    v_function regprocedure;
    v_path text;
BEGIN
    IF NOT memory_is_distributed() THEN
        RETURN;
    END IF;
    SELECT concat_ws(', ', quote_ident(current_schema()), quote_ident(n.nspname)) INTO v_path
    FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'vector';
    FOR v_function IN
        SELECT p.oid::regprocedure FROM pg_proc AS p
        -- Immutable ones name no table, and the planner puts the body of those in SQL in place of the call.
        WHERE p.pronamespace = quote_ident(current_schema())::regnamespace AND p.provolatile <> 'i'
          -- These work at the coordinator.
          AND p.proname NOT IN ('memory_is_distributed', 'settle_memory_functions', 'begin_memory_ids',
                                'restrict_memory_partition')
    LOOP
        -- Some are called by a statement that reads tables as well: Citus then fears that a function reads tables of other
        -- nodes, which those of one schema cannot be.
        EXECUTE format('ALTER FUNCTION %s SET search_path = %s SET citus.allow_nested_distributed_execution = on
                RESET plan_cache_mode', v_function, v_path);
        EXECUTE format('SELECT create_distributed_function(%L::regprocedure, colocate_with := %L)',
            v_function::text, format('%I.memory_users', current_schema()));
    END LOOP;
END $body$;

-- New jobs, deliveries, events and revisions of this partition have ids from p_first on: unique among all
-- partitions. Where Citus has placed the schema, each node takes numbers of its own, and has 2^36 of them here: the
-- range that Citus gives a node would begin with the same number in every schema. To be repeated after a node was added.
CREATE OR REPLACE FUNCTION begin_memory_ids(p_first bigint)
RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    v_sequence text;
    v_last bigint;
    v_failed text;
BEGIN
    FOREACH v_sequence IN ARRAY ARRAY['memory_jobs_id_seq', 'memory_webhook_deliveries_id_seq',
                                      'memory_events_id_seq', 'memory_block_revisions_id_seq'] LOOP
        EXECUTE format('SELECT last_value FROM %I', v_sequence) INTO v_last;
        IF v_last < p_first THEN
            PERFORM setval(v_sequence::regclass, p_first, false);
        END IF;
        CONTINUE WHEN NOT memory_is_distributed();
        EXECUTE 'SELECT max(result) FROM run_command_on_all_nodes($1) WHERE NOT success' INTO v_failed
        USING format($command$DO $$
            DECLARE
                v_first bigint := %3$s + ((SELECT groupid FROM pg_dist_local_group)::bigint << 36);
                v_used bigint;
            BEGIN
                PERFORM set_config('citus.enable_ddl_propagation', 'off', true);
                -- Numbers of this node are in use if Citus has set the sequence back, or a backup was restored. They
                -- are read before the sequence, which continues meanwhile.
                SELECT greatest(v_first - 1, max(id)) INTO v_used FROM %2$s
                WHERE id BETWEEN v_first AND v_first + (1::bigint << 36) - 2;
                IF (SELECT seqmin FROM pg_sequence WHERE seqrelid = %1$L::regclass) <> v_first
                    OR (SELECT last_value + is_called::integer FROM %1$s) <= v_used THEN
                    EXECUTE format('ALTER SEQUENCE %1$s MINVALUE %%s MAXVALUE %%s START %%s RESTART %%s',
                        v_first, v_first + (1::bigint << 36) - 2, v_first, v_used + 1);
                END IF;
            END $$$command$,
            format('%I.%I', current_schema(), v_sequence),
            format('%I.%I', current_schema(), substring(v_sequence FROM '(.*)_id_seq')), p_first);
        IF v_failed IS NOT NULL THEN
            RAISE EXCEPTION 'A node of Citus could not prepare the sequence %: %', v_sequence, v_failed;
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
