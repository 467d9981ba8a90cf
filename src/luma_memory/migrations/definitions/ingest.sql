
-- Accept blocks: user rows, blocks, passages and jobs in one statement of the caller.
--
-- p_blocks: an array of objects with the columns of memory_block_input, the only list of the fields a client may
-- send for a block; unknown keys are ignored and missing ones are NULL, so that versions before and after a
-- new field can both call this. p_passage_* describe the passages, p_passage_item being the 1-based
-- position of the block. Returns one row per block, in order:
--   created         false when the same idempotency key or external id was accepted before, or an equal block
--   same_request    false when that earlier request had the same idempotency key and differed
--   repeats         the status of the stored block that this one repeats; `block_id` is that one, and it is counted
-- Locks the users' rows first, in order, so that requests with one key cannot pass each other and
-- two statements cannot deadlock. With p_claimed_by the jobs are created already claimed by that worker.
-- p_traceparents: of the requests, one per block or NULL, for the traces of the jobs.
-- p_repeats_since: an equal block (all fields but the time and the key) without an external id that occurred
-- between this and the block's own time is the same block sent again. NULL: never. A failed or superseded
-- block is never repeated: an equal new block is stored.
CREATE OR REPLACE FUNCTION ingest_memory_blocks(
    p_blocks jsonb,
    p_passage_item integer[], p_passage_ordinal integer[], p_passage_start integer[],
    p_passage_stop integer[], p_passage_lexemes sparsevec[],
    p_max_attempts integer, p_fair_step interval,
    p_claimed_by text DEFAULT NULL, p_lease interval DEFAULT NULL, p_traceparents text[] DEFAULT NULL,
    p_repeats_since timestamptz[] DEFAULT NULL
) RETURNS TABLE (block_id uuid, job_id bigint, created boolean, same_request boolean,
                 repeats text)
-- A user's row locked by another transaction must not delay the other users of the statement: their
-- items run again without it.
LANGUAGE plpgsql SET lock_timeout = '250ms' AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_blocks memory_block_input[] := ARRAY(
        SELECT b FROM jsonb_populate_recordset(NULL::memory_block_input, p_blocks) AS b);
    -- Two blocks of equal content_hash are the same if all fields but these are equal.
    v_not_compared text[] := ARRAY['id', 'content', 'occurred_at', 'utc_offset_minutes', 'idempotency_key', 'request_hash',
        'job_id', 'created_at', 'updated_at', 'ordinality', 'n', 'since'];
    v_items integer[];
    v_jobs bigint[];
    v_keyed boolean := EXISTS (
        SELECT FROM unnest(v_blocks) AS b WHERE coalesce(b.idempotency_key, b.external_id) IS NOT NULL);
    v_fresh integer[];
    v_repeats integer[];  -- items that are sent again, and the blocks that they are
    v_same uuid[];
    v_n integer;
    v_id uuid;
    v_job_id bigint;
    v_status text;
    v_head timestamptz := memory_queue_place(v_now);
    v_place timestamptz[];
    v_touched record;
    v_new memory_block_input[];  -- the blocks that are stored, in the order of v_items
BEGIN
    WITH touched AS (
        INSERT INTO memory_users AS u (project_id, user_id, version, last_ingest_at, active_hour, fair_at)
        SELECT s.project_id, s.user_id, memory_next_version(0, v_now), v_now,
               date_trunc('hour', v_now, 'UTC'), v_head + p_fair_step * s.items
        FROM (SELECT i.project_id, i.user_id, count(*) AS items FROM unnest(v_blocks) AS i
              GROUP BY i.project_id, i.user_id ORDER BY i.project_id, i.user_id) AS s
        ON CONFLICT (project_id, user_id) DO UPDATE
        SET version = memory_next_version(u.version, v_now), previous = u.version,
            last_ingest_at = v_now, active_hour = excluded.active_hour,
            fair_at = memory_later(greatest(v_head, u.fair_at), excluded.fair_at - v_head)
        RETURNING u.project_id, u.user_id, u.fair_at, u.version, u.previous
    )
    SELECT array_agg(t.project_id) AS projects, array_agg(t.user_id) AS users, array_agg(t.fair_at) AS places,
           array_agg(t.version) AS versions, array_agg(t.previous) AS previous
    INTO v_touched FROM touched AS t;
    WITH logged AS (
        -- All ids: one that turns out to be stored already costs nothing.
        INSERT INTO memory_changes (project_id, user_id, version, previous, block_ids, has_items)
        SELECT t.project_id, t.user_id, t.version, t.previous, array_agg(i.id), true
        FROM unnest(v_touched.projects, v_touched.users, v_touched.versions, v_touched.previous)
             AS t (project_id, user_id, version, previous)
        JOIN unnest(v_blocks) AS i ON i.project_id = t.project_id AND i.user_id = t.user_id
        GROUP BY t.project_id, t.user_id, t.version, t.previous
    )
    -- The user's place in virtual time after this statement, one entry per item.
    SELECT array_agg(t.fair_at - p_fair_step * (i.items - i.turn) ORDER BY i.n) INTO v_place
    FROM (SELECT x.*, row_number() OVER (PARTITION BY x.project_id, x.user_id ORDER BY x.n) AS turn,
                 count(*) OVER (PARTITION BY x.project_id, x.user_id) AS items
          FROM (SELECT b.project_id, b.user_id, b.ordinality AS n
                FROM unnest(v_blocks) WITH ORDINALITY AS b) AS x) AS i
    JOIN unnest(v_touched.projects, v_touched.users, v_touched.places) AS t (project_id, user_id, fair_at)
      ON t.project_id = i.project_id AND t.user_id = i.user_id;

    IF v_keyed THEN
        -- First of its key here, and no stored block has it. The lock above makes this check final.
        SELECT array_agg(i.n ORDER BY i.n) INTO v_fresh
        FROM (SELECT x.*,
                     row_number() OVER (PARTITION BY x.project_id, x.user_id, x.idempotency_key ORDER BY x.n) AS key_turn,
                     row_number() OVER (PARTITION BY x.project_id, x.user_id, x.external_id ORDER BY x.n) AS external_turn
              FROM (SELECT b.*, b.ordinality AS n FROM unnest(v_blocks) WITH ORDINALITY AS b) AS x) AS i
        WHERE (i.idempotency_key IS NULL OR i.key_turn = 1)
          AND (i.external_id IS NULL OR i.external_turn = 1)
          AND NOT EXISTS (SELECT FROM memory_blocks AS b
                          WHERE b.project_id = i.project_id AND b.user_id = i.user_id
                            AND b.idempotency_key = i.idempotency_key)
          AND NOT EXISTS (SELECT FROM memory_blocks AS b
                          WHERE b.project_id = i.project_id AND b.user_id = i.user_id
                            AND b.external_id = i.external_id)
          AND NOT EXISTS (SELECT FROM memory_idempotency AS k
                          WHERE k.project_id = i.project_id AND k.user_id = i.user_id
                            AND k.idempotency_key = i.idempotency_key);
    ELSE
        v_fresh := ARRAY(SELECT generate_series(1, cardinality(v_blocks)));
    END IF;

    IF p_repeats_since IS NOT NULL THEN
        -- Equal blocks that are stored already, each the first of its kind. Final for the same reason.
        SELECT array_agg(i.n ORDER BY i.n), array_agg(b.id ORDER BY i.n) INTO v_repeats, v_same
        FROM (SELECT x.*, x.ordinality AS n, p_repeats_since[x.ordinality] AS since
              FROM unnest(v_blocks) WITH ORDINALITY AS x) AS i
        CROSS JOIN LATERAL (
            SELECT m.id FROM memory_blocks AS m
            -- The expression of the index memory_blocks_said; the comparison of the scope must not be usable by
            -- an index, or the primary key would be chosen without statistics.
            WHERE m.content_hash = i.content_hash AND m.external_id IS NULL
              AND hashtextextended(m.user_id, hashtextextended(m.project_id, 0))
                  = hashtextextended(i.user_id, hashtextextended(i.project_id, 0))
              AND (m.project_id, m.user_id) IS NOT DISTINCT FROM (i.project_id, i.user_id)
              AND m.occurred_at BETWEEN i.since AND i.occurred_at
              AND m.status <> 'failed' AND m.superseded_at IS NULL AND m.job_id IS NOT NULL
              -- Equal in all fields a client may send, including fields added later.
              AND NOT EXISTS (
                  SELECT FROM jsonb_each(to_jsonb(i) - v_not_compared) AS f
                  WHERE f.value IS DISTINCT FROM to_jsonb(m) -> f.key)
            ORDER BY m.created_at, m.id LIMIT 1) AS b
        WHERE i.external_id IS NULL AND (NOT v_keyed OR i.n = ANY (v_fresh));
        IF cardinality(v_blocks) > 1 THEN
            -- Items equal to an earlier item.
            SELECT nullif(coalesce(v_repeats, '{}') || array_agg(i.n::integer ORDER BY i.n), '{}'),
                   coalesce(v_same, '{}') || array_agg((v_blocks[i.first_n]).id ORDER BY i.n)
            INTO v_repeats, v_same
            FROM (SELECT x.n, min(x.n) OVER (PARTITION BY x.project_id, x.user_id, x.content_hash, x.compared,
                             CASE WHEN x.since = x.occurred_at THEN x.since END) AS first_n
                  FROM (SELECT b.*, b.ordinality AS n, p_repeats_since[b.ordinality] AS since,
                               -- Computed only if there is something to compare.
                               CASE WHEN count(*) OVER (PARTITION BY b.content_hash) > 1
                                    THEN to_jsonb(b) - v_not_compared END AS compared
                        FROM unnest(v_blocks) WITH ORDINALITY AS b) AS x
                  WHERE x.external_id IS NULL AND x.since IS NOT NULL AND x.n = ANY (v_fresh)
                    AND x.n <> ALL (coalesce(v_repeats, '{}'))) AS i
            WHERE i.first_n < i.n;
        END IF;
    END IF;

    SELECT array_agg(i.n), array_agg(i.block), array_agg((i.block).job_id) INTO v_items, v_new, v_jobs
    FROM (SELECT n, jsonb_populate_record(v_blocks[n], jsonb_build_object('created_at', v_now,
                     'updated_at', v_now, 'job_id', nextval('memory_jobs_id_seq'))) AS block
          FROM unnest(v_fresh) AS n
          WHERE v_repeats IS NULL OR n <> ALL (v_repeats) OFFSET 0) AS i;
    WITH block AS (
        -- The view's columns by their order; the table's other columns have defaults.
        INSERT INTO memory_block_input SELECT b.* FROM unnest(v_new) AS b
    ), passage AS (
        INSERT INTO memory_passages (project_id, user_id, block_id, ordinal, start_at, stop_at,
            session_id, occurred_at, expires_at, speaker_key, lexemes)
        SELECT b.project_id, b.user_id, b.id, p.ordinal, p.start_at, p.stop_at,
               b.session_id, coalesce(b.occurred_at, v_now), b.expires_at,
               memory_speaker_key(b.speaker), p.lexemes
        FROM unnest(p_passage_item, p_passage_ordinal, p_passage_start, p_passage_stop,
                    p_passage_lexemes) AS p (n, ordinal, start_at, stop_at, lexemes)
        JOIN unnest(v_items) WITH ORDINALITY AS i (n, at) ON i.n = p.n
        JOIN unnest(v_new) WITH ORDINALITY AS b ON b.ordinality = i.at
    )
    INSERT INTO memory_jobs (id, project_id, user_id, block_id, job_type, max_attempts,
        run_at, fair_at, created_at, status, attempts, locked_by, locked_until, started_at, payload)
    SELECT b.job_id, b.project_id, b.user_id, b.id,
           'enrich_and_embed', p_max_attempts, v_now, v_place[i.n], v_now,
           CASE WHEN p_claimed_by IS NULL THEN 'pending' ELSE 'processing' END,
           CASE WHEN p_claimed_by IS NULL THEN 0 ELSE 1 END,
           p_claimed_by, v_now + p_lease,
           CASE WHEN p_claimed_by IS NOT NULL THEN v_now END,
           CASE WHEN p_traceparents[i.n] IS NULL THEN '{}'
                ELSE jsonb_build_object('traceparent', p_traceparents[i.n]) END
    FROM unnest(v_items) WITH ORDINALITY AS i (n, at)
    JOIN unnest(v_new) WITH ORDINALITY AS b ON b.ordinality = i.at;

    IF v_repeats IS NOT NULL THEN
        -- One by one: joined to an array, a small table would be read completely.
        FOR v_n, v_id IN SELECT x.n, x.id FROM unnest(v_repeats, v_same) AS x (n, id) LOOP
            UPDATE memory_blocks SET repeat_count = repeat_count + 1
            WHERE project_id = (v_blocks[v_n]).project_id AND user_id = (v_blocks[v_n]).user_id
              AND id = v_id
            RETURNING memory_blocks.job_id, memory_blocks.status INTO v_job_id, v_status;
            -- Its key is used as well: a late repetition gets this response, whatever happened to the block since.
            IF (v_blocks[v_n]).idempotency_key IS NOT NULL THEN
                INSERT INTO memory_idempotency (project_id, user_id, idempotency_key, operation,
                    request_hash, block_id, job_id, block_status, created_at)
                VALUES ((v_blocks[v_n]).project_id, (v_blocks[v_n]).user_id,
                    (v_blocks[v_n]).idempotency_key, 'POST /blocks', (v_blocks[v_n]).request_hash,
                    v_id, v_job_id, v_status, v_now)
                ON CONFLICT DO NOTHING;
            END IF;
        END LOOP;
    ELSIF NOT v_keyed THEN
        RETURN QUERY SELECT i.id, j.job_id, true, true, NULL::text
        FROM unnest(v_blocks) WITH ORDINALITY AS i
        JOIN unnest(v_items, v_jobs) AS j (n, job_id) ON j.n = i.ordinality ORDER BY i.ordinality;
        RETURN;
    END IF;

    -- A block found by its external id may have another key, or none: that key is not reused.
    RETURN QUERY SELECT b.id, b.job_id, b.id = i.id,
        b.idempotency_key IS DISTINCT FROM i.idempotency_key
            OR b.request_hash IS NOT DISTINCT FROM i.request_hash,
        b.repeats
    FROM unnest(v_blocks) WITH ORDINALITY AS i
    LEFT JOIN LATERAL (
        SELECT m.id, m.job_id, m.request_hash, m.idempotency_key, NULL AS repeats
        FROM memory_blocks AS m
        WHERE m.project_id = i.project_id AND m.user_id = i.user_id AND m.id = i.id
        UNION ALL
        SELECT m.id, m.job_id, m.request_hash, m.idempotency_key, NULL
        FROM memory_blocks AS m
        WHERE m.project_id = i.project_id AND m.user_id = i.user_id
          AND m.idempotency_key = i.idempotency_key
        UNION ALL
        SELECT m.id, m.job_id, m.request_hash, m.idempotency_key, NULL
        FROM memory_blocks AS m
        WHERE m.project_id = i.project_id AND m.user_id = i.user_id
          AND m.external_id = i.external_id
        UNION ALL
        SELECT m.id, m.job_id, NULL, NULL, m.status FROM memory_blocks AS m
        WHERE m.project_id = i.project_id AND m.user_id = i.user_id
          AND m.id = v_same[array_position(v_repeats, i.ordinality::integer)]
        UNION ALL
        -- A block that was deleted, or another write with this key.
        SELECT k.block_id, k.job_id, k.request_hash, k.idempotency_key, k.block_status
        FROM memory_idempotency AS k
        WHERE k.project_id = i.project_id AND k.user_id = i.user_id
          AND k.idempotency_key = i.idempotency_key
        LIMIT 1
    ) AS b ON true
    ORDER BY i.ordinality;
END $body$;

-- As versions before 0015 call it: one array per column.
CREATE OR REPLACE FUNCTION ingest_memory_blocks(
    p_ids uuid[], p_project_ids text[], p_user_ids text[], p_contents text[],
    p_agent_ids text[], p_session_ids text[], p_speakers text[], p_sources text[],
    p_external_ids text[], p_metadata jsonb[], p_occurred_at timestamptz[],
    p_expires_at timestamptz[], p_idempotency_keys text[], p_content_hashes bytea[],
    p_request_hashes bytea[],
    p_passage_item integer[], p_passage_ordinal integer[], p_passage_start integer[],
    p_passage_stop integer[], p_passage_lexemes sparsevec[],
    p_max_attempts integer, p_fair_step interval,
    p_claimed_by text DEFAULT NULL, p_lease interval DEFAULT NULL, p_traceparents text[] DEFAULT NULL,
    p_repeats_since timestamptz[] DEFAULT NULL
) RETURNS TABLE (block_id uuid, job_id bigint, created boolean, same_request boolean,
                 repeats text)
LANGUAGE sql AS $body$
    SELECT * FROM ingest_memory_blocks((
        SELECT jsonb_agg(to_jsonb(x) ORDER BY x.n)
        FROM unnest(p_ids, p_project_ids, p_user_ids, p_contents, p_agent_ids, p_session_ids,
                    p_speakers, p_sources, p_external_ids, p_metadata, p_occurred_at, p_expires_at,
                    p_idempotency_keys, p_content_hashes, p_request_hashes)
             WITH ORDINALITY AS x (id, project_id, user_id, content, agent_id, session_id, speaker,
                    source, external_id, metadata, occurred_at, expires_at, idempotency_key,
                    content_hash, request_hash, n)),
        p_passage_item, p_passage_ordinal, p_passage_start, p_passage_stop, p_passage_lexemes,
        p_max_attempts, p_fair_step, p_claimed_by, p_lease, p_traceparents, p_repeats_since)
$body$;
