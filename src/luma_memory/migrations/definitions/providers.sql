-- The shared state of the model providers, and pending backfills of blocks.

-- May this provider be called? One row: state 'closed' means yes, and so does `is_probe`: this caller
-- alone probes a circuit whose time is over, and should note the outcome within p_probe.
-- `failures` is the number before this call (a success should be noted if it is not 0).
CREATE OR REPLACE FUNCTION enter_memory_circuit(p_name text, p_probe interval)
RETURNS TABLE (state text, code text, reason text, wait_seconds double precision,
               failures integer, is_probe boolean)
LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v memory_circuits;
BEGIN
    SELECT * INTO v FROM memory_circuits WHERE name = p_name;
    IF NOT FOUND OR v.state = 'closed' THEN
        RETURN QUERY SELECT 'closed', NULL::text, NULL::text, 0::double precision,
                            coalesce(v.failures, 0), false;
        RETURN;
    END IF;
    IF v.blocked_until <= v_now THEN
        UPDATE memory_circuits SET probe_until = v_now + p_probe
        WHERE name = p_name AND state <> 'closed' AND blocked_until <= v_now
          AND (probe_until IS NULL OR probe_until <= v_now);
        IF FOUND THEN
            RETURN QUERY SELECT v.state, v.code, v.reason, 0::double precision, v.failures, true;
            RETURN;
        END IF;
    END IF;
    RETURN QUERY SELECT v.state, v.code, v.reason,
        greatest(extract(epoch FROM v.blocked_until - v_now)::double precision, 0), v.failures, false;
END $body$;

-- Record the outcome of a call: 'well', 'limited' (wait p_wait), 'away' or 'refused' (p_failures_max of one
-- kind in a row open the circuit for p_pause, doubling up to p_pause_max; a failed probe does at
-- once).
CREATE OR REPLACE FUNCTION note_memory_circuit(
    p_name text, p_outcome text, p_is_probe boolean, p_code text, p_reason text, p_wait interval,
    p_failures_max integer, p_pause interval, p_pause_max interval
) RETURNS void LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v memory_circuits;
    v_failures integer;
BEGIN
    INSERT INTO memory_circuits (name) VALUES (p_name) ON CONFLICT (name) DO NOTHING;
    SELECT * INTO v FROM memory_circuits WHERE name = p_name FOR UPDATE;
    v_failures := CASE WHEN v.failing = p_outcome THEN v.failures + 1 ELSE 1 END;
    IF p_outcome <> 'well' THEN
        UPDATE memory_circuits SET last_code = p_code, last_reason = p_reason, last_failed_at = v_now
        WHERE name = p_name;
    END IF;
    CASE
    WHEN p_outcome = 'well' THEN
        -- The result of a call that started before the provider's rate limit does not lift the limit.
        UPDATE memory_circuits
        SET state = 'closed', failures = 0, failing = NULL, openings = 0, code = NULL,
            reason = NULL, blocked_until = NULL, probe_until = NULL, failing_since = NULL,
            changed_at = v_now
        WHERE name = p_name AND (p_is_probe OR v.state <> 'limited');
    WHEN p_outcome = 'limited' THEN
        UPDATE memory_circuits
        SET state = 'limited', code = p_code, reason = p_reason, probe_until = NULL, changed_at = v_now,
            failing_since = CASE WHEN v.state = 'limited' THEN v.failing_since ELSE v_now END,
            blocked_until = greatest(v_now + p_wait, CASE WHEN v.state = 'limited' THEN v.blocked_until END)
        WHERE name = p_name;
    WHEN p_is_probe OR (v.state = 'closed' AND v_failures >= p_failures_max) THEN
        UPDATE memory_circuits
        SET state = p_outcome, failures = v_failures, failing = p_outcome, openings = v.openings + 1,
            code = p_code, reason = p_reason, probe_until = NULL, changed_at = v_now,
            failing_since = coalesce(v.failing_since, v_now),
            blocked_until = v_now + least(p_pause * 2 ^ least(v.openings, 20), p_pause_max)
        WHERE name = p_name;
    ELSE
        UPDATE memory_circuits SET failures = v_failures, failing = p_outcome, changed_at = v_now,
            failing_since = CASE WHEN v.failing = p_outcome THEN coalesce(v.failing_since, v_now) ELSE v_now END
        WHERE name = p_name;
    END CASE;
END $body$;

-- Keep the derived facts of a block whose other step is still pending: the next attempt need not
-- pay for them again. The block's status and its job stay as they are. False where the job is no
-- longer the caller's own attempt or the block was edited: nothing is changed there.
CREATE OR REPLACE FUNCTION keep_memory_enrichment(
    p_worker text, p_job_id bigint, p_attempt integer, p_revision integer, p_title text,
    p_summary text, p_facts jsonb, p_importance real, p_language text, p_enrichment text
) RETURNS boolean LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_project text;
    v_user text;
    v_block uuid;
BEGIN
    SELECT project_id, user_id, block_id INTO v_project, v_user, v_block FROM memory_jobs
    WHERE id = p_job_id AND attempts = p_attempt AND status = 'processing' AND locked_by = p_worker
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM raise_memory_versions(ARRAY[v_project], ARRAY[v_user], ARRAY[NULL::uuid], v_now);
    UPDATE memory_blocks
    SET title = p_title, summary = p_summary,
        tags = ARRAY(SELECT jsonb_array_elements_text(p_facts -> 'tags')),
        entities = p_facts -> 'entities', importance = p_importance, language = p_language,
        enrichment = p_enrichment, enrichment_model = p_facts ->> 'model',
        enriched_revision = p_revision, error = p_facts ->> 'error',
        backfill_steps = CASE WHEN p_facts ? 'backfill_steps' THEN
            ARRAY(SELECT jsonb_array_elements_text(p_facts -> 'backfill_steps')) END,
        updated_at = v_now
    WHERE project_id = v_project AND user_id = v_user AND id = v_block AND revision = p_revision;
    RETURN FOUND;
END $body$;

-- Enqueue jobs for active blocks whose pending backfill is due, behind all other work, as long as
-- fewer than p_open_max of them wait and all of these circuits are closed. Their payload names the
-- steps: {"backfill": ["enrich"]}. Returns how many were enqueued.
CREATE OR REPLACE FUNCTION enqueue_memory_backfill(p_open_max integer, p_circuits text[])
RETURNS integer LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_priority integer := -20;
    v_capacity integer;
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
    v_payloads jsonb[];
BEGIN
    -- Every worker calls this; one of them at a time is enough.
    IF NOT pg_try_advisory_xact_lock(hashtext('enqueue_memory_backfill')) THEN
        RETURN 0;
    END IF;
    IF EXISTS (SELECT FROM memory_circuits AS c
               WHERE c.name = ANY (p_circuits) AND c.state <> 'closed' AND c.blocked_until > v_now) THEN
        RETURN 0;
    END IF;
    SELECT p_open_max - count(*) INTO v_capacity
    FROM (SELECT FROM memory_jobs
          WHERE status = 'pending' AND fair_at < 'infinity' AND priority = v_priority
          LIMIT p_open_max) AS j;
    SELECT array_agg(w.project_id), array_agg(w.user_id), array_agg(w.id),
           array_agg(jsonb_build_object('backfill', coalesce(w.backfill_steps, '{}')))
    INTO v_projects, v_users, v_blocks, v_payloads
    FROM (SELECT b.project_id, b.user_id, b.id, b.backfill_steps FROM memory_blocks AS b
          WHERE b.backfill_at <= v_now AND b.status = 'active'
            AND NOT EXISTS (SELECT FROM memory_jobs AS j
                WHERE j.block_id = b.id AND j.status IN ('pending', 'processing')
                  AND j.job_type = 'enrich_and_embed'
                  AND j.project_id = b.project_id AND j.user_id = b.user_id)
          ORDER BY b.backfill_at LIMIT v_capacity) AS w;
    IF v_blocks IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM enqueue_memory_jobs(v_projects, v_users,
        array_fill('enrich_and_embed'::text, ARRAY[cardinality(v_blocks)]), v_blocks, v_payloads,
        array_fill(v_priority, ARRAY[cardinality(v_blocks)]),
        array_fill(NULL::timestamptz, ARRAY[cardinality(v_blocks)]),
        array_fill(NULL::text, ARRAY[cardinality(v_blocks)]), 1);
    -- The job itself sets the time of the next backfill, if any; this is for jobs that are deleted.
    UPDATE memory_blocks AS b SET backfill_at = v_now + interval '1 hour'
    FROM unnest(v_projects, v_users, v_blocks) AS i (project_id, user_id, block_id)
    WHERE b.project_id = i.project_id AND b.user_id = i.user_id AND b.id = i.block_id;
    RETURN cardinality(v_blocks);
END $body$;

-- Make backfills that are pending for later or on request due now, for at most p_limit blocks, whose
-- number it returns. Workers then process them, behind all other work.
CREATE OR REPLACE FUNCTION request_memory_backfill(
    p_project_id text DEFAULT NULL, p_user_id text DEFAULT NULL, p_limit integer DEFAULT 1000
) RETURNS integer LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_changed integer;
BEGIN
    UPDATE memory_blocks AS b SET backfill_at = v_now
    FROM (SELECT project_id, user_id, id FROM memory_blocks
          WHERE backfill_at > v_now AND status = 'active'
            AND (p_project_id IS NULL OR project_id = p_project_id)
            AND (p_user_id IS NULL OR user_id = p_user_id)
            -- A step that a waiting job will do is not requested twice.
            AND NOT EXISTS (SELECT FROM memory_jobs AS j
                WHERE j.block_id = memory_blocks.id AND j.status IN ('pending', 'processing')
                  AND j.job_type = 'enrich_and_embed'
                  AND j.project_id = memory_blocks.project_id AND j.user_id = memory_blocks.user_id)
          ORDER BY project_id, user_id, id LIMIT p_limit FOR UPDATE) AS w
    WHERE b.project_id = w.project_id AND b.user_id = w.user_id AND b.id = w.id;
    GET DIAGNOSTICS v_changed = ROW_COUNT;
    RETURN v_changed;
END $body$;

-- Replace a scope's vectors by those of its next model, at once for every reader.
-- Returns how many. Vectors of an earlier revision are dropped.
CREATE OR REPLACE FUNCTION move_memory_vectors(p_project_id text, p_user_id text, p_model text)
RETURNS integer LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_moved integer;
BEGIN
    -- This lock blocks only an erasure, after which there is nothing to move.
    PERFORM FROM memory_users
    WHERE project_id = p_project_id AND user_id = p_user_id FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    UPDATE memory_passages AS m
    SET embedding = n.embedding,
        embedding_model = CASE WHEN n.embedding IS NULL THEN 'none:' ELSE '' END || p_model
    FROM memory_next_passages AS n
    JOIN memory_blocks AS b ON b.project_id = n.project_id AND b.user_id = n.user_id
        AND b.id = n.block_id AND b.revision = n.revision
    WHERE n.project_id = p_project_id AND n.user_id = p_user_id AND n.model = p_model
      AND m.project_id = n.project_id AND m.user_id = n.user_id AND m.block_id = n.block_id
      AND m.ordinal = n.ordinal;
    GET DIAGNOSTICS v_moved = ROW_COUNT;
    DELETE FROM memory_next_passages WHERE project_id = p_project_id AND user_id = p_user_id;
    -- Windows of turns contain the text of several blocks: their own jobs embed them again.
    DELETE FROM memory_passages
    WHERE project_id = p_project_id AND user_id = p_user_id AND ordinal = -1
      AND embedding_model <> p_model;
    IF FOUND THEN
        PERFORM enqueue_memory_jobs(ARRAY[p_project_id], ARRAY[p_user_id], ARRAY['reembed'],
            NULL, ARRAY['{"sessions": "all"}'::jsonb], ARRAY[-20], NULL, NULL);
    END IF;
    INSERT INTO memory_scope_models AS s (project_id, user_id, model, changed_at)
    VALUES (p_project_id, p_user_id, p_model, now())
    ON CONFLICT (project_id, user_id) DO UPDATE
    SET model = excluded.model, changed_at = excluded.changed_at;
    RETURN v_moved;
END $body$;

-- Jobs for up to p_limit scopes that have passages without a vector of p_model, once the jobs enqueued
-- before have ended; returns how many. If none is left the other models retire, and a little later
-- the change is finished. Does nothing unless the model is requested, nor while one of
-- these circuits is open.
CREATE OR REPLACE FUNCTION enqueue_memory_reembeds(p_model text, p_limit integer, p_circuits text[])
RETURNS integer LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_projects text[];
    v_users text[];
BEGIN
    IF NOT EXISTS (SELECT FROM memory_embedding_models WHERE id = p_model AND wanted_at IS NOT NULL)
       OR NOT pg_try_advisory_xact_lock(hashtext('enqueue_memory_reembeds'))
       OR EXISTS (SELECT FROM memory_circuits AS c
                  WHERE c.name = ANY (p_circuits) AND c.state <> 'closed' AND c.blocked_until > v_now)
       OR EXISTS (SELECT FROM memory_jobs AS j
                  WHERE j.block_id IS NULL AND j.status IN ('pending', 'processing')
                    AND j.job_type = 'reembed' AND j.payload = '{}') THEN
        RETURN 0;
    END IF;
    SELECT array_agg(s.project_id), array_agg(s.user_id) INTO v_projects, v_users
    FROM (SELECT DISTINCT m.project_id, m.user_id FROM memory_passages AS m
          JOIN memory_blocks AS b ON b.project_id = m.project_id AND b.user_id = m.user_id
              AND b.id = m.block_id
          WHERE m.ordinal >= 0 AND m.embedding_model IS DISTINCT FROM p_model
            AND m.embedding_model IS DISTINCT FROM 'none:' || p_model
            -- Their own job embeds them.
            AND b.status <> 'pending_enrichment'
          LIMIT p_limit) AS s;
    IF v_projects IS NOT NULL THEN
        PERFORM enqueue_memory_jobs(v_projects, v_users,
            array_fill('reembed'::text, ARRAY[cardinality(v_users)]),
            array_fill(NULL::uuid, ARRAY[cardinality(v_users)]),
            array_fill(NULL::jsonb, ARRAY[cardinality(v_users)]),
            array_fill(-10, ARRAY[cardinality(v_users)]),
            array_fill(NULL::timestamptz, ARRAY[cardinality(v_users)]),
            array_fill(NULL::text, ARRAY[cardinality(v_users)]));
        RETURN cardinality(v_users);
    END IF;
    IF EXISTS (SELECT FROM memory_passages AS m
               WHERE m.ordinal >= 0
                 AND m.embedding_model NOT IN (p_model, 'none:' || p_model)) THEN
        RETURN 0;
    END IF;
    UPDATE memory_embedding_models SET retired_at = v_now WHERE id <> p_model AND retired_at IS NULL;
    IF NOT FOUND THEN
        -- Processes learn of a retirement within seconds; texts they embedded until then are stale, and
        -- were searched for above.
        UPDATE memory_embedding_models SET wanted_at = NULL
        WHERE wanted_at IS NOT NULL AND NOT EXISTS (
            SELECT FROM memory_embedding_models AS o WHERE o.retired_at > v_now - interval '10 s');
        IF FOUND THEN
            -- A job that read its scope's model before the switch may have stored windows after it.
            SELECT array_agg(s.project_id), array_agg(s.user_id) INTO v_projects, v_users
            FROM (SELECT DISTINCT m.project_id, m.user_id FROM memory_passages AS m
                  WHERE m.ordinal = -1 AND m.embedding_model <> p_model) AS s;
            IF v_projects IS NOT NULL THEN
                PERFORM enqueue_memory_jobs(v_projects, v_users,
                    array_fill('reembed'::text, ARRAY[cardinality(v_users)]),
                    array_fill(NULL::uuid, ARRAY[cardinality(v_users)]),
                    array_fill('{"sessions": "all"}'::jsonb, ARRAY[cardinality(v_users)]),
                    array_fill(-20, ARRAY[cardinality(v_users)]),
                    array_fill(NULL::timestamptz, ARRAY[cardinality(v_users)]),
                    array_fill(NULL::text, ARRAY[cardinality(v_users)]));
            END IF;
        END IF;
        DELETE FROM memory_next_passages;
    END IF;
    RETURN 0;
END $body$;
