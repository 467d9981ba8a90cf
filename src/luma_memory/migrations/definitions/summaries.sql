-- Weekly summaries. A week is summarized from its active blocks (no items) as of its end: a block that
-- another block of the same week, or an earlier one, had replaced by then is left out.

-- The week's blocks by id and revision. [p_starts_at, p_ends_at) is the window.
CREATE OR REPLACE FUNCTION memory_week_blocks(
    p_project_id text, p_user_id text, p_starts_at timestamptz, p_ends_at timestamptz
) RETURNS TABLE (id uuid, revision integer) LANGUAGE plpgsql STABLE AS $body$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT b.id, b.revision
    FROM memory_blocks AS b
    LEFT JOIN memory_blocks AS o ON o.project_id = b.project_id AND o.user_id = b.user_id
        AND o.id = b.superseded_by
    WHERE b.project_id = p_project_id AND b.user_id = p_user_id AND b.status = 'active' AND b.key IS NULL
      AND coalesce(b.occurred_at, b.created_at) >= p_starts_at
      AND coalesce(b.occurred_at, b.created_at) < p_ends_at
      AND (b.expires_at IS NULL OR b.expires_at > now())
      AND (b.superseded_by IS NULL OR coalesce(o.occurred_at, o.created_at) >= p_ends_at);
END $body$;

-- Mark the summaries of the weeks of these instants, or those that cite this block, as stale. The
-- caller holds the user's row.
CREATE OR REPLACE FUNCTION stale_memory_summaries(
    p_project_id text, p_user_id text, p_block_id uuid, p_instants timestamptz[], p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    UPDATE memory_summaries AS s SET stale = true, updated_at = p_now
    WHERE s.project_id = p_project_id AND s.user_id = p_user_id AND NOT s.stale
      AND (p_block_id = ANY (s.block_ids)
           OR EXISTS (SELECT FROM unnest(p_instants) AS i (instant)
                      WHERE i.instant >= s.starts_at AND i.instant < s.ends_at));
END $body$;

-- Store the summary of a week, if its blocks are unchanged since they were read; stale if there
-- are more by now. With a job, that is completed in the same transaction. Returns 'stored', 'changed'
-- (nothing was written: write it again) or 'lost' (another worker has the job, or the user is gone).
CREATE OR REPLACE FUNCTION store_memory_summary(
    p_project_id text, p_user_id text, p_week_start date, p_time_zone text,
    p_starts_at timestamptz, p_ends_at timestamptz, p_id uuid, p_text text, p_highlights jsonb,
    p_comparison text, p_model text, p_block_ids uuid[], p_read_ids uuid[],
    p_read_revisions integer[], p_worker text, p_job_id bigint, p_attempt integer
) RETURNS text LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_known bigint;
    v_all bigint;
    v_id uuid;
    v_renewed boolean;
BEGIN
    IF p_job_id IS NOT NULL THEN
        PERFORM FROM memory_jobs WHERE id = p_job_id AND attempts = p_attempt
            AND status = 'processing' AND locked_by = p_worker FOR UPDATE;
        IF NOT FOUND THEN
            RETURN 'lost';
        END IF;
    END IF;
    PERFORM FROM memory_users WHERE project_id = p_project_id AND user_id = p_user_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'lost';
    END IF;
    SELECT count(r.id), count(*) INTO v_known, v_all
    FROM memory_week_blocks(p_project_id, p_user_id, p_starts_at, p_ends_at) AS w
    LEFT JOIN unnest(p_read_ids, p_read_revisions) AS r (id, revision)
      ON r.id = w.id AND r.revision = w.revision;
    IF v_known < cardinality(p_read_ids) THEN
        RETURN 'changed';
    END IF;
    IF p_job_id IS NOT NULL THEN
        PERFORM complete_memory_jobs(ARRAY[p_job_id], ARRAY[p_attempt], p_worker);
    END IF;
    IF cardinality(p_read_ids) = 0 THEN
        DELETE FROM memory_summaries WHERE project_id = p_project_id AND user_id = p_user_id
            AND week_start = p_week_start;
        RETURN 'stored';
    END IF;
    INSERT INTO memory_summaries AS s (id, project_id, user_id, week_start, time_zone, starts_at,
        ends_at, text, highlights, comparison, block_ids, model, stale, created_at, updated_at)
    VALUES (p_id, p_project_id, p_user_id, p_week_start, p_time_zone, p_starts_at, p_ends_at,
        p_text, p_highlights, p_comparison, p_block_ids, p_model, v_all > v_known, v_now, v_now)
    ON CONFLICT (project_id, user_id, week_start) DO UPDATE
    SET time_zone = excluded.time_zone, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
        text = excluded.text, highlights = excluded.highlights, comparison = excluded.comparison,
        block_ids = excluded.block_ids, model = excluded.model, stale = excluded.stale,
        updated_at = v_now
    RETURNING s.id, xmax <> 0 INTO v_id, v_renewed;
    PERFORM record_memory_events('summary.created', ARRAY[p_project_id], ARRAY[p_user_id],
        ARRAY[NULL::uuid], ARRAY[jsonb_build_object('summary_id', v_id, 'week_start', p_week_start,
            'renewed', v_renewed)]);
    RETURN 'stored';
END $body$;
