-- The functions of the queue. Every function takes arrays and reads the clock once: an UPDATE that
-- calls a volatile function is planned without its index. Rows are locked in the order
-- jobs, users, blocks, so that no two of these can deadlock.
--
-- Those that search jobs by state do it without bitmap scans: a job stays in each state for
-- milliseconds, so nearly all entries of these indexes are dead between two runs of the vacuum. An
-- index scan marks and skips dead entries; a bitmap scan visits all of their rows again
-- (measured behind 60,000 completed jobs: 6.4 ms per claim, where the claim itself takes 1.8). Nor
-- sequential scans, which the planner takes when a table has grown since it was last analyzed.

-- The queue's virtual time, from which a user without waiting jobs takes a place: that of the job
-- next in line, or now when no job waits. By the clock alone, a backlog that drains slower than its
-- places were assigned would fall behind it, and a new user would queue behind all of it.
CREATE OR REPLACE FUNCTION memory_queue_place(p_now timestamptz)
RETURNS timestamptz LANGUAGE plpgsql STABLE AS $body$
BEGIN
    RETURN least(p_now, (SELECT fair_at FROM memory_jobs
        WHERE status = 'pending' AND fair_at < 'infinity' AND priority = 0
        ORDER BY fair_at LIMIT 1));
END $body$;

-- Enqueue jobs for blocks, or for a user where the block is NULL. A unique key that exists already
-- returns no row. Returns the new ids.
CREATE OR REPLACE FUNCTION enqueue_memory_jobs(
    p_project_ids text[], p_user_ids text[], p_job_types text[], p_block_ids uuid[],
    p_payloads jsonb[], p_priorities integer[], p_run_at timestamptz[], p_unique_keys text[],
    p_max_attempts integer DEFAULT 3, p_fair_step interval DEFAULT '100 ms'
) RETURNS SETOF bigint LANGUAGE plpgsql SET lock_timeout = '250ms' AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_place timestamptz := memory_queue_place(v_now);
    v_touched record;
BEGIN
    -- A single job is the usual call and needs no grouping: a third less time.
    IF cardinality(p_project_ids) = 1 THEN
        INSERT INTO memory_users AS u (project_id, user_id, fair_at)
        VALUES (p_project_ids[1], p_user_ids[1], v_place + p_fair_step)
        ON CONFLICT (project_id, user_id) DO UPDATE
        SET fair_at = memory_later(greatest(v_place, u.fair_at), p_fair_step)
        RETURNING u.fair_at INTO v_place;
        RETURN QUERY
        INSERT INTO memory_jobs (project_id, user_id, job_type, block_id, payload, priority, run_at,
            unique_key, max_attempts, fair_at, created_at)
        VALUES (p_project_ids[1], p_user_ids[1], p_job_types[1], p_block_ids[1],
            coalesce(p_payloads[1], '{}'), coalesce(p_priorities[1], 0), coalesce(p_run_at[1], v_now),
            p_unique_keys[1], p_max_attempts,
            CASE WHEN p_run_at[1] > v_now THEN 'infinity' ELSE v_place END, v_now)
        ON CONFLICT (project_id, user_id, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
        RETURNING id;
        RETURN;
    END IF;

    WITH touched AS (
        INSERT INTO memory_users AS u (project_id, user_id, fair_at)
        SELECT i.project_id, i.user_id, v_place + p_fair_step * count(*)
        FROM unnest(p_project_ids, p_user_ids) AS i (project_id, user_id)
        GROUP BY i.project_id, i.user_id ORDER BY i.project_id, i.user_id
        ON CONFLICT (project_id, user_id) DO UPDATE
        SET fair_at = memory_later(greatest(v_place, u.fair_at), excluded.fair_at - v_place)
        RETURNING u.project_id, u.user_id, u.fair_at
    )
    SELECT array_agg(t.project_id) AS projects, array_agg(t.user_id) AS users, array_agg(t.fair_at) AS places
    INTO v_touched FROM touched AS t;
    RETURN QUERY
    INSERT INTO memory_jobs (project_id, user_id, job_type, block_id, payload, priority, run_at,
        unique_key, max_attempts, fair_at, created_at)
    SELECT i.project_id, i.user_id, i.job_type, i.block_id, coalesce(i.payload, '{}'),
           coalesce(i.priority, 0), coalesce(i.run_at, v_now), i.unique_key, p_max_attempts,
           CASE WHEN i.run_at > v_now THEN 'infinity'
                ELSE t.fair_at - p_fair_step * (i.items - i.turn) END, v_now
    FROM (SELECT x.*, count(*) OVER (PARTITION BY x.project_id, x.user_id) AS items,
                 row_number() OVER (PARTITION BY x.project_id, x.user_id ORDER BY x.n) AS turn
          FROM unnest(p_project_ids, p_user_ids, p_job_types, p_block_ids, p_payloads, p_priorities,
                      p_run_at, p_unique_keys) WITH ORDINALITY
               AS x (project_id, user_id, job_type, block_id, payload, priority, run_at, unique_key, n)) AS i
    JOIN unnest(v_touched.projects, v_touched.users, v_touched.places) AS t (project_id, user_id, fair_at)
      ON t.project_id = i.project_id AND t.user_id = i.user_id
    ORDER BY i.n
    ON CONFLICT (project_id, user_id, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
    RETURNING id;
END $body$;

-- The history of a job's failed attempts with one more: the last ten are kept, oldest first.
CREATE OR REPLACE FUNCTION memory_attempt_errors(
    p_errors jsonb, p_attempt integer, p_at timestamptz, p_worker text, p_error_class text,
    p_message text
) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $body$
BEGIN
    WHILE jsonb_array_length(p_errors) >= 10 LOOP
        p_errors := p_errors - 0;
    END LOOP;
    RETURN p_errors || jsonb_build_array(jsonb_build_object('attempt', p_attempt,
        'at', to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'worker', p_worker, 'error_class', p_error_class, 'message', left(p_message, 500)));
END $body$;

-- No worker claims jobs of a type, or any job where the type is NULL, until they are resumed; what
-- runs continues, and jobs can be enqueued. Returns whether it was not paused before.
CREATE OR REPLACE FUNCTION pause_memory_jobs(p_job_type text DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO memory_job_pauses (job_type) VALUES (coalesce(p_job_type, 'all'))
    ON CONFLICT (job_type) DO NOTHING;
    RETURN FOUND;
END $body$;

-- Workers claim jobs of this type again; if the type is NULL, of every paused type. Returns how
-- many pauses ended.
CREATE OR REPLACE FUNCTION resume_memory_jobs(p_job_type text DEFAULT NULL)
RETURNS integer LANGUAGE plpgsql AS $body$
DECLARE
    v_ended integer;
BEGIN
    DELETE FROM memory_job_pauses WHERE p_job_type IS NULL OR job_type = p_job_type;
    GET DIAGNOSTICS v_ended = ROW_COUNT;
    RETURN v_ended;
END $body$;

-- Mark blocks whose enrichment failed for good; their text stays searchable.
CREATE OR REPLACE FUNCTION fail_memory_blocks(
    p_project_ids text[], p_user_ids text[], p_block_ids uuid[], p_errors text[]
) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_failed record;
BEGIN
    -- Statuses are not indexed for search, so no passage changes.
    PERFORM raise_memory_versions(p_project_ids, p_user_ids,
        array_fill(NULL::uuid, ARRAY[cardinality(p_user_ids)]), v_now);

    WITH failed AS (
        UPDATE memory_blocks AS b
        SET status = 'failed', error = i.error, updated_at = v_now
        FROM unnest(p_project_ids, p_user_ids, p_block_ids, p_errors)
             AS i (project_id, user_id, block_id, error)
        WHERE b.project_id = i.project_id AND b.user_id = i.user_id AND b.id = i.block_id
          AND b.status = 'pending_enrichment'
        RETURNING b.project_id, b.user_id, b.id
    )
    SELECT array_agg(f.project_id ORDER BY f.id) AS projects,
           array_agg(f.user_id ORDER BY f.id) AS users, array_agg(f.id ORDER BY f.id) AS ids
    INTO v_failed FROM failed AS f;
    IF v_failed.ids IS NOT NULL THEN
        PERFORM record_memory_events('block.failed', v_failed.projects, v_failed.users, v_failed.ids,
            NULL);
    END IF;
END $body$;

-- Report jobs that failed for good, except those that deliver events: one would cause the next.
CREATE OR REPLACE FUNCTION report_failed_memory_jobs(p_ids bigint[])
RETURNS void LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
DECLARE
    v_failed record;
BEGIN
    SELECT array_agg(j.project_id ORDER BY j.id) AS projects,
           array_agg(j.user_id ORDER BY j.id) AS users,
           array_agg(j.block_id ORDER BY j.id) AS blocks,
           array_agg(jsonb_build_object('job_id', j.id, 'job_type', j.job_type,
               'error_class', j.error_class) ORDER BY j.id) AS data
    INTO v_failed FROM memory_jobs AS j
    WHERE j.id = ANY (p_ids) AND j.status = 'failed' AND j.job_type <> 'deliver_webhook';
    IF v_failed.projects IS NOT NULL THEN
        PERFORM record_memory_events('job.failed', v_failed.projects, v_failed.users, v_failed.blocks,
            v_failed.data);
    END IF;
END $body$;

-- Release jobs whose worker is gone: the lease ran out, or the session advisory lock that a
-- directly connected worker holds was free at two checks. The attempt stays counted, so a job that
-- kills its worker runs out of them; its last one it runs alone (see claim_memory_jobs), so that it
-- does not take others with it. Returns how many jobs went back or failed.
CREATE OR REPLACE FUNCTION rescue_memory_jobs(p_worker text, p_limit integer DEFAULT 100)
RETURNS integer LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_up timestamptz;
    v_is_steady boolean;
    v_gone text[];
    v_ids bigint[];
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
    v_errors text[];
    v_rescued integer;
BEGIN
    v_gone := ARRAY(SELECT h.id
        FROM (SELECT w.id, w.lock_key
              FROM (SELECT DISTINCT locked_by FROM memory_jobs
                    WHERE status = 'processing' AND locked_by <> p_worker) AS j
              JOIN memory_workers AS w ON w.id = j.locked_by
              WHERE w.lock_key IS NOT NULL
              OFFSET 0  -- or the locks of all workers there ever were are tried
             ) AS h
        WHERE pg_try_advisory_xact_lock_shared(h.lock_key));
    IF cardinality(v_gone) > 0 THEN
        -- A worker that lost only its connection is back before the second check, and clears this
        -- with its heartbeat.
        UPDATE memory_workers SET stopped_at = v_now
        WHERE id = ANY (ARRAY(SELECT id FROM memory_workers
            WHERE id = ANY (v_gone) AND stopped_at IS NULL ORDER BY id FOR UPDATE SKIP LOCKED));
        v_gone := ARRAY(SELECT id FROM memory_workers
            WHERE id = ANY (v_gone) AND stopped_at < v_now - interval '400 ms');
    END IF;

    -- Leases also run out while the database is frozen. A worker without a recent heartbeat, or with
    -- one again only for a moment, cannot distinguish such leases from those of dead workers; their holders
    -- reconnect at that moment too, and complete or release their jobs.
    v_is_steady := NOT EXISTS (SELECT FROM memory_workers WHERE id = p_worker
        AND (last_seen < v_now - interval '12 s' OR steady_since > v_now - interval '10 s'));

    v_ids := ARRAY(SELECT id FROM memory_jobs
        WHERE status = 'processing'
          AND (locked_until < v_now AND v_is_steady OR locked_by = ANY (v_gone))
        ORDER BY locked_until LIMIT p_limit FOR UPDATE SKIP LOCKED);
    IF cardinality(v_ids) = 0 THEN
        RETURN 0;
    END IF;

    -- A restart frees every lock, and leases run out while no job can be completed: the holders of
    -- jobs that are older than the server get time to reconnect. The WAL writer starts when the server
    -- begins to accept statements, also after the crash of a backend; not every role may see it.
    SELECT greatest(pg_postmaster_start_time(), max(a.backend_start)) INTO v_up
    FROM pg_stat_activity AS a WHERE a.backend_type = 'walwriter';
    IF v_now < v_up + interval '10 s' THEN
        v_ids := ARRAY(SELECT id FROM memory_jobs WHERE id = ANY (v_ids) AND started_at >= v_up);
    END IF;

    -- Behind a transaction pooler there are no locks: a missing heartbeat and an expired lease take their place.
    v_gone := v_gone || ARRAY(SELECT w.id FROM memory_workers AS w
        WHERE w.lock_key IS NULL AND w.last_seen < v_now - interval '15 s'
          AND w.id = ANY (ARRAY(SELECT locked_by FROM memory_jobs WHERE id = ANY (v_ids))));

    UPDATE memory_jobs
    SET status = CASE WHEN attempts < max_attempts THEN 'pending' ELSE 'failed' END,
        fair_at = CASE WHEN attempts = max_attempts - 1 AND locked_by = ANY (v_gone) THEN 'infinity'
                       ELSE least(fair_at, v_now) END,
        finished_at = CASE WHEN attempts < max_attempts THEN NULL ELSE v_now END,
        error_class = CASE WHEN locked_by = ANY (v_gone) THEN 'poison' ELSE 'timeout' END,
        last_error = 'worker ' || locked_by || ' was gone while it ran attempt ' || attempts::text,
        attempt_errors = memory_attempt_errors(attempt_errors, attempts, v_now, locked_by,
            CASE WHEN locked_by = ANY (v_gone) THEN 'poison' ELSE 'timeout' END,
            'worker ' || locked_by || ' was gone while it ran attempt ' || attempts::text),
        locked_until = NULL
    WHERE id = ANY (v_ids);
    GET DIAGNOSTICS v_rescued = ROW_COUNT;

    SELECT array_agg(project_id), array_agg(user_id), array_agg(block_id), array_agg(last_error)
    INTO v_projects, v_users, v_blocks, v_errors
    FROM memory_jobs
    WHERE id = ANY (v_ids) AND status = 'failed' AND job_type = 'enrich_and_embed';
    IF v_projects IS NOT NULL THEN
        PERFORM fail_memory_blocks(v_projects, v_users, v_blocks, v_errors);
    END IF;
    PERFORM report_failed_memory_jobs(v_ids);
    RETURN v_rescued;
END $body$;

-- Claim up to p_limit jobs for p_lease. Each claim counts an attempt. p_rescue first takes back
-- jobs of dead workers (callers request it at intervals, not at every claim).
--
-- Jobs below priority 0 run in the background: a worker claims them if no other job waits and it runs
-- none, or they would slow down the last jobs of a backlog. One that has waited
-- for 10 s longer than its turn is claimed if no other job waits; a worker runs one of those at a time.
--
-- A job with one attempt left whose worker was gone in the last one may be what ended it. Such a job
-- is set aside (fair_at 'infinity' with its time come), is claimed alone by a worker that runs nothing
-- else, and nothing joins it: jobs beside it would lose their attempts to it. One worker at a time
-- runs such jobs, the others continue: a busy one that finds such a job reserves it (locked_by and
-- locked_until of a pending job), claims nothing more and takes it when it is idle, unless another
-- idle worker was faster.
CREATE OR REPLACE FUNCTION claim_memory_jobs(
    p_worker text, p_limit integer, p_lease interval, p_job_types text[],
    p_rescue boolean DEFAULT true
) RETURNS SETOF memory_jobs LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_fair_step interval := '100 ms';
    v_ids bigint[];
    v_run_at timestamptz[];
    v_behind interval[];
    v_place timestamptz;
    v_alone bigint;
    v_running integer;
    v_running_low integer;
    v_low_limit integer;
    v_paused text[];
BEGIN
    -- A claim need not be durable: one that a crash of the server undoes is made again by the next
    -- worker, and the fence rejects the first worker's result. So its commit does not wait for the
    -- disk; this holds for the whole transaction, and a claim is a transaction of its own.
    PERFORM set_config('synchronous_commit', 'off', true);

    IF p_rescue THEN
        PERFORM rescue_memory_jobs(p_worker);
    END IF;

    SELECT array_agg(job_type) INTO v_paused FROM memory_job_pauses;
    IF v_paused IS NOT NULL THEN
        p_job_types := ARRAY(SELECT t FROM unnest(p_job_types) AS t
            WHERE t <> ALL (v_paused) AND 'all' <> ALL (v_paused));
        IF cardinality(p_job_types) = 0 THEN
            RETURN;
        END IF;
    END IF;

    -- Jobs whose time has come get a place: each user's first is next in line, the others follow
    -- step by step, so that one user's many jobs do not delay those of all others.
    WITH due AS (
        SELECT id, project_id, user_id, run_at FROM memory_jobs
        WHERE status = 'pending' AND fair_at = 'infinity' AND run_at <= v_now
          AND (attempts < max_attempts - 1 OR error_class IS DISTINCT FROM 'poison')
        ORDER BY run_at LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
    SELECT array_agg(d.id), array_agg(d.run_at), array_agg(v_fair_step * (d.turn - 1))
    INTO v_ids, v_run_at, v_behind
    FROM (SELECT id, run_at, row_number() OVER (PARTITION BY project_id, user_id ORDER BY run_at, id) AS turn
          FROM due) AS d;
    IF v_ids IS NOT NULL THEN
        v_place := memory_queue_place(v_now);
        UPDATE memory_jobs AS j SET fair_at = memory_later(least(i.run_at, v_place), i.behind)
        FROM unnest(v_ids, v_run_at, v_behind) AS i (id, run_at, behind) WHERE j.id = i.id;
    END IF;

    -- A job that runs alone is found by its own index; a worker's other jobs are counted only
    -- if the count matters: for most claims it would cost more than the claim itself.
    IF p_limit <= 0 OR EXISTS (SELECT FROM memory_jobs
            WHERE status = 'processing' AND error_class = 'poison' AND attempts = max_attempts
              AND locked_by = p_worker) THEN
        RETURN;
    END IF;
    SELECT id INTO v_alone FROM memory_jobs
    WHERE status = 'pending' AND fair_at = 'infinity' AND run_at <= v_now
      AND attempts = max_attempts - 1 AND error_class = 'poison' AND job_type = ANY (p_job_types)
    ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF v_alone IS NOT NULL THEN
        SELECT count(*) INTO v_running FROM memory_jobs
        WHERE status = 'processing' AND locked_by = p_worker;
    END IF;
    IF v_alone IS NOT NULL
       AND NOT EXISTS (SELECT FROM memory_jobs WHERE status = 'processing' AND locked_by <> p_worker
                       AND error_class = 'poison' AND attempts = max_attempts)
       AND (v_running = 0
            OR NOT EXISTS (SELECT FROM memory_jobs WHERE status = 'pending' AND fair_at = 'infinity'
                           AND locked_by <> p_worker AND locked_until > v_now)) THEN
        IF v_running > 0 THEN
            UPDATE memory_jobs SET locked_by = p_worker, locked_until = v_now + p_lease
            WHERE id = v_alone;
            RETURN;
        END IF;
        RETURN QUERY
        UPDATE memory_jobs
        SET status = 'processing', attempts = attempts + 1, locked_by = p_worker,
            locked_until = v_now + p_lease, started_at = v_now
        WHERE id = v_alone
        RETURNING *;
        RETURN;
    END IF;

    -- ANY (ARRAY(...)) takes exactly the rows the subquery locked and keeps its index scan under
    -- a generic plan; the join form can claim more than p_limit.
    RETURN QUERY
    UPDATE memory_jobs
    SET status = 'processing', attempts = attempts + 1, locked_by = p_worker,
        locked_until = v_now + p_lease, started_at = v_now
    WHERE id = ANY (ARRAY(SELECT id FROM memory_jobs
        WHERE status = 'pending' AND fair_at < 'infinity' AND priority >= 0
          AND job_type = ANY (p_job_types)
        ORDER BY priority DESC, fair_at, id LIMIT p_limit FOR UPDATE SKIP LOCKED))
    RETURNING *;
    IF FOUND THEN
        RETURN;
    END IF;

    SELECT count(*), count(*) FILTER (WHERE priority < 0) INTO v_running, v_running_low
    FROM memory_jobs WHERE status = 'processing' AND locked_by = p_worker;
    v_low_limit := CASE WHEN v_running = v_running_low THEN p_limit
                         WHEN v_running_low = 0 THEN 1 ELSE 0 END;
    RETURN QUERY
    UPDATE memory_jobs
    SET status = 'processing', attempts = attempts + 1, locked_by = p_worker,
        locked_until = v_now + p_lease, started_at = v_now
    WHERE id = ANY (ARRAY(SELECT id FROM memory_jobs
        WHERE status = 'pending' AND priority < 0 AND job_type = ANY (p_job_types)
          AND fair_at < CASE WHEN v_running = v_running_low THEN 'infinity'::timestamptz
                             ELSE v_now - interval '10 s' END
          AND fair_at < 'infinity'
        ORDER BY priority DESC, fair_at, id LIMIT v_low_limit FOR UPDATE SKIP LOCKED))
    RETURNING *;
END $body$;

-- Complete jobs that are still the caller's own attempt. Returns the ids that were.
--
-- The fence is a hash lookup and not a join (IS TRUE keeps the planner from making it one): with
-- fresh statistics of a small table, a join reads the whole primary key (measured
-- with 20,000 rows: 27 us per job, and 13 in this form).
CREATE OR REPLACE FUNCTION complete_memory_jobs(p_ids bigint[], p_attempts integer[], p_worker text)
RETURNS SETOF bigint LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_done bigint[];
BEGIN
    WITH done AS (
        UPDATE memory_jobs AS j
        SET status = 'completed', finished_at = v_now, locked_until = NULL,
            error_class = NULL, last_error = NULL
        WHERE j.id = ANY (p_ids)
          AND ((j.id, j.attempts) IN (SELECT i.id, i.attempts
               FROM unnest(p_ids, p_attempts) AS i (id, attempts))) IS TRUE
          AND j.status = 'processing' AND j.locked_by = p_worker
        RETURNING j.id
    )
    SELECT array_agg(d.id) INTO v_done FROM done AS d;

    IF v_done IS NOT NULL THEN
        UPDATE memory_workers SET completed = completed + cardinality(v_done) WHERE id = p_worker;
        IF NOT FOUND THEN
            -- Its row was pruned while it slept, or never inserted: the total is counted all the same.
            INSERT INTO memory_workers AS w (id, completed) VALUES (p_worker, cardinality(v_done))
            ON CONFLICT (id) DO UPDATE SET completed = w.completed + excluded.completed;
        END IF;
    END IF;
    RETURN QUERY SELECT unnest(v_done);
END $body$;

-- Count a failed attempt: back to pending after the backoff, or failed for good when p_final is
-- true or no attempt is left. Returns each job that was still the caller's, and its new status.
CREATE OR REPLACE FUNCTION fail_memory_jobs(
    p_ids bigint[], p_attempts integer[], p_worker text, p_error_classes text[], p_errors text[],
    p_backoffs interval[], p_final boolean[]
) RETURNS TABLE (id bigint, status text) LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_ids bigint[];
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
    v_errors text[];
BEGIN
    WITH failed AS (
        UPDATE memory_jobs AS j
        SET status = CASE WHEN i.final OR j.attempts >= j.max_attempts THEN 'failed' ELSE 'pending' END,
            run_at = CASE WHEN i.final OR j.attempts >= j.max_attempts THEN j.run_at
                          ELSE i.retry_at END,
            fair_at = 'infinity', locked_until = NULL,
            error_class = i.error_class, last_error = left(i.error, 2000),
            attempt_errors = memory_attempt_errors(j.attempt_errors, j.attempts, v_now, p_worker,
                i.error_class, i.error),
            finished_at = CASE WHEN i.final OR j.attempts >= j.max_attempts THEN v_now END
        FROM (SELECT x.*, v_now + x.backoff AS retry_at
              FROM unnest(p_ids, p_attempts, p_error_classes, p_errors, p_backoffs, p_final)
                   AS x (id, attempts, error_class, error, backoff, final)) AS i
        WHERE j.id = i.id AND j.attempts = i.attempts AND j.status = 'processing'
          AND j.locked_by = p_worker
        RETURNING j.id, j.status, j.project_id, j.user_id, j.block_id, j.job_type, j.last_error
    )
    SELECT array_agg(f.id),
           array_agg(f.project_id) FILTER (WHERE f.status = 'failed' AND f.job_type = 'enrich_and_embed'),
           array_agg(f.user_id) FILTER (WHERE f.status = 'failed' AND f.job_type = 'enrich_and_embed'),
           array_agg(f.block_id) FILTER (WHERE f.status = 'failed' AND f.job_type = 'enrich_and_embed'),
           array_agg(f.last_error) FILTER (WHERE f.status = 'failed' AND f.job_type = 'enrich_and_embed')
    INTO v_ids, v_projects, v_users, v_blocks, v_errors FROM failed AS f;

    IF v_projects IS NOT NULL THEN
        PERFORM fail_memory_blocks(v_projects, v_users, v_blocks, v_errors);
    END IF;
    PERFORM report_failed_memory_jobs(v_ids);
    RETURN QUERY SELECT j.id, j.status FROM memory_jobs AS j WHERE j.id = ANY (v_ids);
END $body$;

-- End claimed jobs for good without a result: there is nothing left to do. Blocks that wait for
-- such a job are failed with its reason. Returns the ids that were still the caller's.
CREATE OR REPLACE FUNCTION drop_memory_jobs(
    p_ids bigint[], p_attempts integer[], p_worker text, p_reasons text[]
) RETURNS SETOF bigint LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_ids bigint[];
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
    v_reasons text[];
BEGIN
    WITH dropped AS (
        UPDATE memory_jobs AS j
        SET status = 'cancelled', finished_at = v_now, locked_until = NULL,
            last_error = left(i.reason, 2000)
        FROM unnest(p_ids, p_attempts, p_reasons) AS i (id, attempts, reason)
        WHERE j.id = i.id AND j.attempts = i.attempts AND j.status = 'processing'
          AND j.locked_by = p_worker
        RETURNING j.id, j.project_id, j.user_id, j.block_id, j.job_type, j.last_error
    )
    SELECT array_agg(d.id), array_agg(d.project_id) FILTER (WHERE d.job_type = 'enrich_and_embed'),
           array_agg(d.user_id) FILTER (WHERE d.job_type = 'enrich_and_embed'),
           array_agg(d.block_id) FILTER (WHERE d.job_type = 'enrich_and_embed'),
           array_agg(d.last_error) FILTER (WHERE d.job_type = 'enrich_and_embed')
    INTO v_ids, v_projects, v_users, v_blocks, v_reasons FROM dropped AS d;

    IF v_projects IS NOT NULL THEN
        PERFORM fail_memory_blocks(v_projects, v_users, v_blocks, v_reasons);
    END IF;
    RETURN QUERY SELECT unnest(v_ids);
END $body$;

-- Release jobs without spending their attempt: a worker that stops, or work that has to wait
-- until p_run_at. Returns the ids that were still the caller's.
CREATE OR REPLACE FUNCTION release_memory_jobs(
    p_ids bigint[], p_attempts integer[], p_worker text, p_run_at timestamptz[] DEFAULT NULL
) RETURNS SETOF bigint LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
    UPDATE memory_jobs AS j
    SET status = 'pending', attempts = j.attempts - 1, locked_by = NULL, locked_until = NULL,
        run_at = coalesce(i.run_at, j.run_at),
        fair_at = CASE WHEN i.run_at > v_now THEN 'infinity'::timestamptz ELSE j.fair_at END
    FROM unnest(p_ids, p_attempts, coalesce(p_run_at, array_fill(NULL::timestamptz, ARRAY[cardinality(p_ids)])))
         AS i (id, attempts, run_at)
    WHERE j.id = i.id AND j.attempts = i.attempts AND j.status = 'processing'
      AND j.locked_by = p_worker
    RETURNING j.id;
END $body$;

-- One row per worker process, new at every start.
CREATE OR REPLACE FUNCTION heartbeat_memory_worker(
    p_worker text, p_host text, p_process_id integer, p_version text, p_running integer,
    p_lock_key bigint, p_stopping boolean DEFAULT false
) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_late timestamptz := v_now - interval '12 s';
BEGIN
    INSERT INTO memory_workers AS w (id, host, process_id, version, running, lock_key, started_at, last_seen)
    VALUES (p_worker, p_host, p_process_id, p_version, p_running, p_lock_key, v_now, v_now)
    ON CONFLICT (id) DO UPDATE
    SET running = excluded.running, last_seen = v_now, lock_key = excluded.lock_key,
        -- At least two heartbeats are missing: this worker or the database was frozen.
        steady_since = CASE WHEN w.last_seen < v_late THEN v_now ELSE w.steady_since END,
        stopped_at = CASE WHEN p_stopping THEN v_now END;
END $body$;

-- One row. Completed jobs are counted as they complete, so the cost does not depend on how many
-- of them are still stored.
CREATE OR REPLACE FUNCTION get_memory_job_stats()
RETURNS TABLE (pending bigint, processing bigint, completed bigint, failed bigint,
               deferred bigint, oldest_pending_seconds double precision)
LANGUAGE plpgsql STABLE SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT
        r.ready + d.deferred + c.claimed - c.running,
        c.running,
        (SELECT coalesce(sum(w.completed), 0)::bigint FROM memory_workers AS w),
        (SELECT count(*) FROM memory_jobs WHERE status = 'failed'),
        d.deferred,
        r.oldest
    FROM (SELECT count(*) AS ready,
                 extract(epoch FROM clock_timestamp() - min(run_at))::double precision AS oldest
          FROM memory_jobs WHERE status = 'pending' AND fair_at < 'infinity') AS r,
         (SELECT count(*) AS deferred
          FROM memory_jobs WHERE status = 'pending' AND fair_at = 'infinity') AS d,
         -- A worker claims a little ahead, and claims while it writes results back: jobs beyond its
         -- slots do not run yet, and count as pending.
         (SELECT coalesce(sum(w.jobs), 0)::bigint AS claimed,
                 coalesce(sum(least(w.jobs, w.slots)), 0)::bigint AS running
          FROM (SELECT count(*) AS jobs, (SELECT h.slots FROM memory_workers AS h WHERE h.id = j.locked_by) AS slots
                FROM memory_jobs AS j WHERE j.status = 'processing' GROUP BY j.locked_by) AS w) AS c;
END $body$;
