-- Relations between a scope's blocks, and their effect: which block a later one replaced.
--
-- Blocks of a scope are ordered by when they happened, then by arrival. A block is replaced
-- only by one later in this order, whichever of the two arrived first or is named first in the
-- relation. So replacing has no cycles, and equal times have one outcome.

-- Determine again by which block each of these was replaced: the earliest later one that an accepted
-- `supersedes` or `contradicts` names, if it was found with certainty or confirmed by a user. Keeps a
-- revision of each block that changes, and marks summaries written from the former state as stale. The
-- caller holds the user's row; its version rises if any changed. Returns how many did.
CREATE OR REPLACE FUNCTION settle_memory_supersession(
    p_project_id text, p_user_id text, p_block_ids uuid[], p_changed_by text, p_now timestamptz
) RETURNS integer LANGUAGE plpgsql SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_blocks uuid[];
    v_before uuid[];
    v_after uuid[];
    v_superseded record;
BEGIN
    SELECT array_agg(b.id ORDER BY b.id), array_agg(b.superseded_by ORDER BY b.id),
           array_agg(w.id ORDER BY b.id)
    INTO v_blocks, v_before, v_after
    FROM memory_blocks AS b
    LEFT JOIN LATERAL (
        SELECT o.id
        FROM (SELECT r.target_id AS id FROM memory_relations AS r
              WHERE r.project_id = p_project_id AND r.user_id = p_user_id AND r.source_id = b.id
                AND r.type IN ('supersedes', 'contradicts') AND r.status = 'accepted'
                AND (r.confidence >= 0.7 OR r.decided_by IS NOT NULL)
              UNION
              SELECT r.source_id FROM memory_relations AS r
              WHERE r.project_id = p_project_id AND r.user_id = p_user_id AND r.target_id = b.id
                AND r.type IN ('supersedes', 'contradicts') AND r.status = 'accepted'
                AND (r.confidence >= 0.7 OR r.decided_by IS NOT NULL)) AS x
        JOIN memory_blocks AS o
          ON o.project_id = p_project_id AND o.user_id = p_user_id AND o.id = x.id
        WHERE (coalesce(o.occurred_at, o.created_at), o.created_at, o.id)
            > (coalesce(b.occurred_at, b.created_at), b.created_at, b.id)
        ORDER BY coalesce(o.occurred_at, o.created_at), o.created_at, o.id
        LIMIT 1
    ) AS w ON true
    WHERE b.project_id = p_project_id AND b.user_id = p_user_id AND b.id = ANY (p_block_ids)
      AND b.superseded_by IS DISTINCT FROM w.id;
    IF v_blocks IS NULL THEN
        RETURN 0;
    END IF;

    INSERT INTO memory_block_revisions (project_id, user_id, block_id, revision, reason, changed_by,
        before, created_at)
    SELECT p_project_id, p_user_id, b.id, b.revision, 'supersession', p_changed_by,
           jsonb_build_object('superseded_by', b.superseded_by, 'superseded_at', b.superseded_at),
           p_now
    FROM memory_blocks AS b
    WHERE b.project_id = p_project_id AND b.user_id = p_user_id AND b.id = ANY (v_blocks);

    UPDATE memory_blocks AS b
    SET superseded_by = i.after, superseded_at = CASE WHEN i.after IS NOT NULL THEN p_now END,
        updated_at = p_now
    FROM unnest(v_blocks, v_after) AS i (id, after)
    WHERE b.project_id = p_project_id AND b.user_id = p_user_id AND b.id = i.id;
    PERFORM raise_memory_version(p_project_id, p_user_id, v_blocks, p_now);
    SELECT array_agg(i.id ORDER BY i.id) AS ids,
           array_agg(jsonb_build_object('superseded_by', i.after) ORDER BY i.id) AS data
    INTO v_superseded FROM unnest(v_blocks, v_after) AS i (id, after) WHERE i.after IS NOT NULL;
    IF v_superseded.ids IS NOT NULL THEN
        PERFORM record_memory_events('block.superseded',
            array_fill(p_project_id, ARRAY[cardinality(v_superseded.ids)]),
            array_fill(p_user_id, ARRAY[cardinality(v_superseded.ids)]), v_superseded.ids,
            v_superseded.data);
    END IF;

    -- A week is summarized as of its end: only a change effective within the week makes it stale.
    UPDATE memory_summaries AS s SET stale = true, updated_at = p_now
    FROM unnest(v_blocks, v_before, v_after) AS i (id, before, after)
    JOIN memory_blocks AS b
      ON b.project_id = p_project_id AND b.user_id = p_user_id AND b.id = i.id
    WHERE s.project_id = p_project_id AND s.user_id = p_user_id AND NOT s.stale
      AND coalesce(b.occurred_at, b.created_at) >= s.starts_at
      AND coalesce(b.occurred_at, b.created_at) < s.ends_at
      AND EXISTS (SELECT FROM memory_blocks AS o
          WHERE o.project_id = p_project_id AND o.user_id = p_user_id
            AND o.id IN (i.before, i.after)
            AND coalesce(o.occurred_at, o.created_at) < s.ends_at);
    RETURN cardinality(v_blocks);
END $body$;

-- Take a block out of all relations that were found (p_all: also out of those that a user rejected),
-- before its text changes or it is deleted. Blocks it had replaced become current again, unless it was
-- itself replaced by a later block: then that one replaces them all. The caller holds the user's row.
CREATE OR REPLACE FUNCTION unrelate_memory_block(
    p_project_id text, p_user_id text, p_block_id uuid, p_all boolean, p_changed_by text,
    p_now timestamptz
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_replaced uuid[] := ARRAY(SELECT id FROM memory_blocks
        WHERE project_id = p_project_id AND user_id = p_user_id AND superseded_by = p_block_id);
BEGIN
    INSERT INTO memory_relations (id, project_id, user_id, source_id, target_id, type, confidence,
        model, created_at, updated_at)
    SELECT gen_random_uuid(), p_project_id, p_user_id, b.superseded_by, x.id, 'supersedes', 1,
           'chain', p_now, p_now
    FROM memory_blocks AS b, unnest(v_replaced) AS x (id)
    WHERE b.project_id = p_project_id AND b.user_id = p_user_id AND b.id = p_block_id
      AND b.superseded_by IS NOT NULL AND b.superseded_by <> x.id
    ON CONFLICT (project_id, user_id, source_id, target_id, type) DO NOTHING;
    DELETE FROM memory_relations
    WHERE project_id = p_project_id AND user_id = p_user_id AND (p_all OR status = 'accepted')
      AND (source_id = p_block_id OR target_id = p_block_id);
    PERFORM settle_memory_supersession(p_project_id, p_user_id, v_replaced || p_block_id,
        p_changed_by, p_now);
END $body$;

-- Whether the caller's job may detect relations of its block now: at most p_limit times in any
-- p_window for a user. One row:
--   is_mine   false if another worker has the job, or the user is gone: nothing was written
--   granted   continue; else `retry_at` is a window in which this job has one of p_limit places, so
--             that a long backlog is not scanned again for each free one
--   is_news   the first refusal of the user in a window
-- Uses are counted twice, in memory_rate_limits and on the blocks, and the higher count holds. A job that
-- was granted within the window and comes again (its worker died, its provider failed) keeps its grant;
-- its use then counts from now.
CREATE OR REPLACE FUNCTION admit_memory_relations(
    p_worker text, p_job_id bigint, p_attempt integer, p_limit integer, p_window interval
) RETURNS TABLE (is_mine boolean, granted boolean, retry_at timestamptz, is_news boolean)
LANGUAGE plpgsql SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_slot interval := p_window / 60;
    -- Beyond this many windows, jobs request again instead of reserving a place.
    v_windows_max integer := 48;
    v_job memory_jobs;
    v_count bigint;
    v_oldest timestamptz;
    v_granted boolean;
    v_retry_at timestamptz;
    v_last timestamptz;
    v_booked integer;
    v_is_news boolean := false;
BEGIN
    SELECT * INTO v_job FROM memory_jobs
    WHERE id = p_job_id AND attempts = p_attempt AND status = 'processing' AND locked_by = p_worker
    FOR UPDATE;
    IF FOUND THEN
        PERFORM FROM memory_users
        WHERE project_id = v_job.project_id AND user_id = v_job.user_id FOR UPDATE;
    END IF;
    IF NOT FOUND THEN
        RETURN QUERY SELECT false, false, NULL::timestamptz, false;
        RETURN;
    END IF;
    v_now := clock_timestamp();

    v_granted := coalesce((v_job.payload ->> 'admitted_at')::timestamptz > v_now - p_window, false);
    SELECT count(*), min(related_at) INTO v_count, v_oldest FROM memory_blocks
    WHERE project_id = v_job.project_id AND user_id = v_job.user_id
      AND related_at > v_now - p_window - v_slot;
    IF v_granted THEN
        NULL;
    ELSIF v_count >= p_limit THEN
        v_retry_at := coalesce(v_oldest, v_now) + p_window + v_slot;
    ELSE
        SELECT c.granted, c.retry_at INTO v_granted, v_retry_at
        FROM check_memory_rate_limit(v_job.project_id, v_job.user_id, 'detect_relations', p_limit,
            p_window) AS c;
    END IF;
    IF v_granted THEN
        UPDATE memory_jobs
        SET payload = coalesce(payload, '{}') || jsonb_build_object('admitted_at', v_now)
        WHERE id = p_job_id;
        UPDATE memory_blocks SET related_at = v_now
        WHERE project_id = v_job.project_id AND user_id = v_job.user_id AND id = v_job.block_id;
        RETURN QUERY SELECT true, true, NULL::timestamptz, false;
        RETURN;
    END IF;

    DELETE FROM memory_rate_limits
    WHERE project_id = v_job.project_id AND user_id = v_job.user_id
      AND ((operation = 'detect_relations:place' AND window_start <= v_now)
        OR (operation = 'detect_relations:told' AND window_start <= v_now - p_window));
    SELECT window_start, count INTO v_last, v_booked FROM memory_rate_limits
    WHERE project_id = v_job.project_id AND user_id = v_job.user_id
      AND operation = 'detect_relations:place'
    ORDER BY window_start DESC LIMIT 1;
    IF v_last >= v_retry_at THEN
        v_retry_at := CASE WHEN v_booked < p_limit
                             OR v_last > v_now + v_windows_max * p_window THEN v_last
                           ELSE v_last + p_window + 2 * v_slot END;
    END IF;
    INSERT INTO memory_rate_limits AS r (project_id, user_id, operation, window_start, count)
    VALUES (v_job.project_id, v_job.user_id, 'detect_relations:place', v_retry_at, 1)
    ON CONFLICT (project_id, user_id, operation, window_start) DO UPDATE SET count = r.count + 1;

    IF NOT EXISTS (SELECT FROM memory_rate_limits
                   WHERE project_id = v_job.project_id AND user_id = v_job.user_id
                     AND operation = 'detect_relations:told') THEN
        INSERT INTO memory_rate_limits (project_id, user_id, operation, window_start, count)
        VALUES (v_job.project_id, v_job.user_id, 'detect_relations:told', v_now, 1);
        v_is_news := true;
    END IF;
    RETURN QUERY SELECT true, false, v_retry_at, v_is_news;
END $body$;

-- Store the relations found for a block, and complete the caller's job in the same transaction.
-- Arrays of one length describe the relations; p_read_ids and p_read_revisions all blocks that were
-- read: a relation of one that changed or was deleted since then is dropped, and so is one that names a
-- missing block or one of another scope. One that a user rejected stays rejected. `stored` counts new ones.
CREATE OR REPLACE FUNCTION relate_memory_block(
    p_worker text, p_job_id bigint, p_attempt integer, p_project_id text, p_user_id text,
    p_ids uuid[], p_sources uuid[], p_targets uuid[], p_types text[], p_confidences real[],
    p_evidence text[], p_model text, p_read_ids uuid[], p_read_revisions integer[]
) RETURNS TABLE (is_mine boolean, stored integer) LANGUAGE plpgsql SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_stored integer;
    v_new record;
BEGIN
    PERFORM complete_memory_jobs(ARRAY[p_job_id], ARRAY[p_attempt], p_worker);
    IF NOT FOUND THEN
        RETURN QUERY SELECT false, 0;
        RETURN;
    END IF;
    PERFORM FROM memory_users WHERE project_id = p_project_id AND user_id = p_user_id FOR UPDATE;
    IF NOT FOUND OR cardinality(p_ids) = 0 THEN
        RETURN QUERY SELECT true, 0;
        RETURN;
    END IF;

    WITH stored AS (
        INSERT INTO memory_relations (id, project_id, user_id, source_id, target_id, type, confidence,
            evidence, model, created_at, updated_at)
        SELECT i.id, p_project_id, p_user_id, i.source_id, i.target_id, i.type, i.confidence, i.evidence,
               p_model, v_now, v_now
        FROM unnest(p_ids, p_sources, p_targets, p_types, p_confidences, p_evidence)
             AS i (id, source_id, target_id, type, confidence, evidence)
        JOIN unnest(p_read_ids, p_read_revisions) AS sr (id, revision) ON sr.id = i.source_id
        JOIN unnest(p_read_ids, p_read_revisions) AS tr (id, revision) ON tr.id = i.target_id
        JOIN memory_blocks AS s ON s.project_id = p_project_id AND s.user_id = p_user_id
            AND s.id = i.source_id AND s.revision = sr.revision
        JOIN memory_blocks AS t ON t.project_id = p_project_id AND t.user_id = p_user_id
            AND t.id = i.target_id AND t.revision = tr.revision
        WHERE i.source_id <> i.target_id
        ON CONFLICT (project_id, user_id, source_id, target_id, type) DO NOTHING
        RETURNING id, source_id, target_id, type
    )
    SELECT array_agg(s.source_id ORDER BY s.id) AS sources,
           array_agg(jsonb_build_object('relation_id', s.id, 'relation_type', s.type,
               'source_id', s.source_id, 'target_id', s.target_id) ORDER BY s.id) AS data
    INTO v_new FROM stored AS s;
    v_stored := coalesce(cardinality(v_new.sources), 0);
    IF v_stored > 0 THEN
        PERFORM record_memory_events('relation.created', array_fill(p_project_id, ARRAY[v_stored]),
            array_fill(p_user_id, ARRAY[v_stored]), v_new.sources, v_new.data);
        PERFORM settle_memory_supersession(p_project_id, p_user_id, p_sources || p_targets,
            'job ' || p_job_id, v_now);
        PERFORM raise_memory_version(p_project_id, p_user_id, '{}', v_now);
    END IF;
    RETURN QUERY SELECT true, v_stored;
END $body$;

-- Accept or reject a relation permanently: later detections do not change it. Returns whether
-- the relation exists.
CREATE OR REPLACE FUNCTION decide_memory_relation(
    p_project_id text, p_user_id text, p_id uuid, p_status text, p_decided_by text
) RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '250ms' SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_relation memory_relations;
BEGIN
    PERFORM FROM memory_users WHERE project_id = p_project_id AND user_id = p_user_id FOR UPDATE;
    UPDATE memory_relations SET status = p_status, decided_by = p_decided_by, updated_at = v_now
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_id
    RETURNING * INTO v_relation;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM settle_memory_supersession(p_project_id, p_user_id,
        ARRAY[v_relation.source_id, v_relation.target_id], p_decided_by, v_now);
    PERFORM raise_memory_version(p_project_id, p_user_id, '{}', v_now);
    RETURN true;
END $body$;
