-- Operations of operators and background duties on the queue: retry, cancel, prune, limit.
-- Filters that are NULL match everything; p_project_id is never left out by a caller on behalf of
-- a client.

-- Failed jobs run again from their first attempt, and cancelled ones that p_ids names; their blocks
-- wait for enrichment again. They queue behind what their user has waiting, as if enqueued now, so
-- that many of one user delay no other user's. Oldest first, at most p_limit. Returns the ids.
CREATE OR REPLACE FUNCTION retry_memory_jobs(
    p_ids bigint[] DEFAULT NULL, p_project_id text DEFAULT NULL, p_user_id text DEFAULT NULL,
    p_job_type text DEFAULT NULL, p_error_class text DEFAULT NULL,
    p_failed_after timestamptz DEFAULT NULL, p_failed_before timestamptz DEFAULT NULL,
    p_limit integer DEFAULT 1000
) RETURNS SETOF bigint LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_head timestamptz := memory_queue_place(v_now);
    v_fair_step interval := '100 ms';
    v_ids bigint[];
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
    v_place timestamptz[];
    v_touched record;
BEGIN
    SELECT array_agg(f.id ORDER BY f.id), array_agg(f.project_id ORDER BY f.id),
           array_agg(f.user_id ORDER BY f.id), array_agg(f.enriches ORDER BY f.id)
    INTO v_ids, v_projects, v_users, v_blocks
    FROM (SELECT id, project_id, user_id,
                 CASE WHEN job_type = 'enrich_and_embed' THEN block_id END AS enriches
          FROM memory_jobs
          WHERE (status = 'failed' OR (p_ids IS NOT NULL AND status = 'cancelled'))
            -- Of no user; a webhook's pending deliveries get another job by themselves.
            AND job_type <> 'deliver_webhook'
            AND (p_ids IS NULL OR id = ANY (p_ids))
            AND (p_project_id IS NULL OR project_id = p_project_id)
            AND (p_user_id IS NULL OR user_id = p_user_id)
            AND (p_job_type IS NULL OR job_type = p_job_type)
            AND (p_error_class IS NULL OR error_class = p_error_class)
            AND (p_failed_after IS NULL OR finished_at >= p_failed_after)
            AND (p_failed_before IS NULL OR finished_at < p_failed_before)
          ORDER BY id LIMIT p_limit FOR UPDATE) AS f;
    IF v_ids IS NULL THEN
        RETURN;
    END IF;

    WITH touched AS (
        INSERT INTO memory_users AS u (project_id, user_id, version, fair_at)
        SELECT i.project_id, i.user_id, memory_next_version(0, v_now), v_head + v_fair_step * count(*)
        FROM unnest(v_projects, v_users) AS i (project_id, user_id)
        GROUP BY i.project_id, i.user_id ORDER BY i.project_id, i.user_id
        ON CONFLICT (project_id, user_id) DO UPDATE
        SET version = memory_next_version(u.version, v_now), previous = u.version,
            fair_at = memory_later(greatest(v_head, u.fair_at), excluded.fair_at - v_head)
        RETURNING u.project_id, u.user_id, u.fair_at, u.version, u.previous
    )
    SELECT array_agg(t.project_id) AS projects, array_agg(t.user_id) AS users, array_agg(t.fair_at) AS places,
           array_agg(t.version) AS versions, array_agg(t.previous) AS previous
    INTO v_touched FROM touched AS t;
    INSERT INTO memory_changes (project_id, user_id, version, previous, block_ids, has_items)
    SELECT t.project_id, t.user_id, t.version, t.previous, '{}', true
    FROM unnest(v_touched.projects, v_touched.users, v_touched.versions, v_touched.previous)
         AS t (project_id, user_id, version, previous);
    SELECT array_agg(t.fair_at - v_fair_step * (i.items - i.turn) ORDER BY i.n) INTO v_place
    FROM (SELECT x.*, count(*) OVER (PARTITION BY x.project_id, x.user_id) AS items,
                 row_number() OVER (PARTITION BY x.project_id, x.user_id ORDER BY x.n) AS turn
          FROM unnest(v_projects, v_users) WITH ORDINALITY AS x (project_id, user_id, n)) AS i
    JOIN unnest(v_touched.projects, v_touched.users, v_touched.places) AS t (project_id, user_id, fair_at)
      ON t.project_id = i.project_id AND t.user_id = i.user_id;

    UPDATE memory_jobs AS j
    SET status = 'pending', attempts = 0, run_at = v_now, fair_at = i.fair_at, locked_by = NULL,
        locked_until = NULL, finished_at = NULL
    FROM unnest(v_ids, v_place) AS i (id, fair_at)
    WHERE j.id = i.id;

    UPDATE memory_blocks AS b SET status = 'pending_enrichment', error = NULL, updated_at = v_now
    FROM unnest(v_projects, v_users, v_blocks) AS i (project_id, user_id, block_id)
    WHERE b.project_id = i.project_id AND b.user_id = i.user_id AND b.id = i.block_id
      AND b.status = 'failed';
    RETURN QUERY SELECT unnest(v_ids);
END $body$;

-- Cancel jobs that have not ended, also running ones: their worker detects it and drops
-- the result. Blocks that waited for such a job are failed with that reason. Returns the ids.
CREATE OR REPLACE FUNCTION cancel_memory_jobs(
    p_ids bigint[] DEFAULT NULL, p_project_id text DEFAULT NULL, p_user_id text DEFAULT NULL,
    p_job_type text DEFAULT NULL, p_limit integer DEFAULT 1000
) RETURNS SETOF bigint LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_ids bigint[];
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
BEGIN
    WITH cancelled AS (
        UPDATE memory_jobs
        SET status = 'cancelled', finished_at = v_now, locked_until = NULL,
            last_error = 'cancelled'
        WHERE id = ANY (ARRAY(SELECT id FROM memory_jobs
            WHERE status IN ('pending', 'processing')
              AND (p_ids IS NULL OR id = ANY (p_ids))
              AND (p_project_id IS NULL OR project_id = p_project_id)
              AND (p_user_id IS NULL OR user_id = p_user_id)
              AND (p_job_type IS NULL OR job_type = p_job_type)
            ORDER BY id LIMIT p_limit FOR UPDATE))
        RETURNING id, project_id, user_id, block_id, job_type
    )
    SELECT array_agg(id), array_agg(project_id) FILTER (WHERE job_type = 'enrich_and_embed'),
           array_agg(user_id) FILTER (WHERE job_type = 'enrich_and_embed'),
           array_agg(block_id) FILTER (WHERE job_type = 'enrich_and_embed')
    INTO v_ids, v_projects, v_users, v_blocks FROM cancelled;

    IF v_projects IS NOT NULL THEN
        PERFORM fail_memory_blocks(v_projects, v_users, v_blocks,
            array_fill('its job was cancelled'::text, ARRAY[cardinality(v_blocks)]));
    END IF;
    RETURN QUERY SELECT unnest(v_ids);
END $body$;

-- Blocks that wait for enrichment without an open job, oldest first.
CREATE OR REPLACE FUNCTION memory_waiting_blocks(p_project_id text, p_user_id text, p_limit integer)
RETURNS TABLE (project_id text, user_id text, id uuid) LANGUAGE plpgsql STABLE AS $body$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT b.project_id, b.user_id, b.id FROM memory_blocks AS b
    WHERE b.status = 'pending_enrichment'
      AND (p_project_id IS NULL OR b.project_id = p_project_id)
      AND (p_user_id IS NULL OR b.user_id = p_user_id)
      AND NOT EXISTS (SELECT FROM memory_jobs AS j
          WHERE j.block_id = b.id AND j.status IN ('pending', 'processing')
            AND j.job_type = 'enrich_and_embed'
            AND j.project_id = b.project_id AND j.user_id = b.user_id)
    ORDER BY b.id LIMIT p_limit;
END $body$;

-- Blocks that wait for enrichment without an open job (an operator cleared the queue): a job for
-- each. Oldest first, at most p_limit. Returns the ids of the new jobs.
CREATE OR REPLACE FUNCTION enqueue_waiting_memory_blocks(
    p_project_id text DEFAULT NULL, p_user_id text DEFAULT NULL, p_max_attempts integer DEFAULT 3,
    p_limit integer DEFAULT 1000
) RETURNS SETOF bigint LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
    v_ids bigint[];
BEGIN
    -- Two concurrent operators would enqueue two jobs per block; the second sees the jobs of the first.
    PERFORM pg_advisory_xact_lock(hashtext('enqueue_waiting_memory_blocks'));
    -- The users first, in the order in which all transactions lock them: a user who is being erased
    -- is gone when this returns, and is not created again.
    PERFORM FROM memory_users AS u
    WHERE (p_project_id IS NULL OR u.project_id = p_project_id)
      AND (p_user_id IS NULL OR u.user_id = p_user_id)
      AND (u.project_id, u.user_id) IN (
          SELECT w.project_id, w.user_id FROM memory_waiting_blocks(p_project_id, p_user_id, p_limit) AS w)
    ORDER BY u.project_id, u.user_id FOR UPDATE;
    SELECT array_agg(w.project_id ORDER BY w.id), array_agg(w.user_id ORDER BY w.id),
           array_agg(w.id ORDER BY w.id)
    INTO v_projects, v_users, v_blocks
    FROM memory_waiting_blocks(p_project_id, p_user_id, p_limit) AS w;
    IF v_blocks IS NULL THEN
        RETURN;
    END IF;
    v_ids := ARRAY(SELECT enqueue_memory_jobs(v_projects, v_users,
        array_fill('enrich_and_embed'::text, ARRAY[cardinality(v_blocks)]), v_blocks,
        array_fill(NULL::jsonb, ARRAY[cardinality(v_blocks)]),
        array_fill(0, ARRAY[cardinality(v_blocks)]),
        array_fill(NULL::timestamptz, ARRAY[cardinality(v_blocks)]),
        array_fill(NULL::text, ARRAY[cardinality(v_blocks)]), p_max_attempts));
    PERFORM raise_memory_versions(v_projects, v_users, v_blocks, clock_timestamp());
    -- A block's job_id refers to the job that now exists.
    UPDATE memory_blocks AS b SET job_id = j.id
    FROM memory_jobs AS j
    WHERE j.id = ANY (v_ids) AND b.project_id = j.project_id AND b.user_id = j.user_id
      AND b.id = j.block_id;
    RETURN QUERY SELECT unnest(v_ids);
END $body$;

-- Delete ended jobs older than their retention, oldest first, at most p_limit, rows of workers long
-- gone, items that have expired, and what the log of changes has of earlier than 15 minutes ago. The totals stay: what a worker completed is added to the row '(gone)'. Returns the
-- number of jobs deleted; fewer than p_limit means there is nothing more for now.
CREATE OR REPLACE FUNCTION prune_memory_jobs(
    p_completed_before timestamptz, p_failed_before timestamptz, p_limit integer DEFAULT 1000
) RETURNS integer LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_deleted integer;
    v_completed bigint;
    v_kept_from bigint := memory_next_version(0, clock_timestamp() - interval '15 min');
BEGIN
    -- By id: ended jobs are the oldest ids, so this reads hardly more rows than it deletes.
    DELETE FROM memory_jobs WHERE id = ANY (ARRAY(SELECT id FROM memory_jobs
        WHERE (status IN ('completed', 'cancelled') AND finished_at < p_completed_before
               -- A unique key must outlive the time in which it may be enqueued again.
               AND (unique_key IS NULL OR finished_at < p_completed_before - interval '30 days'))
           OR (status = 'failed' AND finished_at < p_failed_before)
        ORDER BY id LIMIT p_limit FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_deleted = ROW_COUNT;

    WITH gone AS (
        DELETE FROM memory_workers AS w
        WHERE w.last_seen < p_completed_before AND w.id <> '(gone)'
          AND NOT EXISTS (SELECT FROM memory_jobs AS j
              WHERE j.status = 'processing' AND j.locked_by = w.id)
        RETURNING w.completed
    )
    SELECT sum(completed) INTO v_completed FROM gone;
    IF v_completed > 0 THEN
        INSERT INTO memory_workers AS w (id, completed, stopped_at)
        VALUES ('(gone)', v_completed, p_completed_before)
        ON CONFLICT (id) DO UPDATE SET completed = w.completed + excluded.completed;
    END IF;

    PERFORM delete_expired_memory_items(p_limit);

    -- Versions follow the clock: the log of changes is kept for 15 minutes.
    DELETE FROM memory_changes WHERE ctid = ANY (ARRAY(SELECT ctid FROM memory_changes
        WHERE version < v_kept_from
        LIMIT 100 * p_limit));
    RETURN v_deleted;
END $body$;

-- Use one of p_limit uses of an operation within any p_window, counted in slots of a sixtieth of
-- it. One row: whether it was granted, and if not, when to retry. All workers share it; uses
-- of one user wait for each other here, so that two cannot take the last one. A user who does not exist
-- (any more) is granted nothing, and nothing is written for them.
CREATE OR REPLACE FUNCTION check_memory_rate_limit(
    p_project_id text, p_user_id text, p_operation text, p_limit integer, p_window interval
) RETURNS TABLE (granted boolean, retry_at timestamptz) LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_slot interval := p_window / 60;
    v_start timestamptz := date_bin(p_window / 60, v_now, 'epoch');
    v_used integer;
    v_oldest timestamptz;
BEGIN
    PERFORM FROM memory_users WHERE project_id = p_project_id AND user_id = p_user_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT false, v_now + p_window;
        RETURN;
    END IF;

    DELETE FROM memory_rate_limits
    WHERE project_id = p_project_id AND user_id = p_user_id AND operation = p_operation
      AND window_start <= v_now - p_window - v_slot;
    SELECT coalesce(sum(count), 0), min(window_start) INTO v_used, v_oldest
    FROM memory_rate_limits
    WHERE project_id = p_project_id AND user_id = p_user_id AND operation = p_operation;

    IF v_used >= p_limit THEN
        -- A slot counts until its last moment is a window ago.
        RETURN QUERY SELECT false, coalesce(v_oldest, v_now) + p_window + v_slot;
        RETURN;
    END IF;
    INSERT INTO memory_rate_limits AS r (project_id, user_id, operation, window_start, count)
    VALUES (p_project_id, p_user_id, p_operation, v_start, 1)
    ON CONFLICT (project_id, user_id, operation, window_start) DO UPDATE SET count = r.count + 1;
    RETURN QUERY SELECT true, NULL::timestamptz;
END $body$;
