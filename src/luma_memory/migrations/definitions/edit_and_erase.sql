-- What clients change after a block was accepted: edit it, delete it, erase or import a whole user.
-- Rows are locked in the order jobs, users, blocks, as everywhere.

-- Change a block that still has revision p_revision. p_changes holds the columns that change; with
-- p_passage_ordinal the text changed too: the passages are replaced, facts derived from the old
-- text are removed, and a job enriches it again. Returns the new revision, or no row if the block does
-- not exist or has another revision.
CREATE OR REPLACE FUNCTION edit_memory_block(
    p_project_id text, p_user_id text, p_block_id uuid, p_revision integer, p_changed_by text,
    p_changes jsonb, p_content_hash bytea,
    p_passage_ordinal integer[], p_passage_start integer[], p_passage_stop integer[],
    p_passage_lexemes sparsevec[], p_max_attempts integer
) RETURNS SETOF integer LANGUAGE plpgsql SET lock_timeout = '250ms' AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_anew boolean := p_passage_ordinal IS NOT NULL;
    v_job bigint;
    v_runs boolean;
    v_before memory_blocks;
    v_after memory_blocks;
BEGIN
    -- A pending job of this block will read the new version; a running one has read the old version,
    -- and its result is dropped because of the revision, whatever was edited: another job follows.
    SELECT id INTO v_job FROM memory_jobs
    WHERE block_id = p_block_id AND status = 'pending' AND job_type = 'enrich_and_embed'
      AND project_id = p_project_id AND user_id = p_user_id
    LIMIT 1 FOR UPDATE SKIP LOCKED;
    PERFORM FROM memory_users
    WHERE project_id = p_project_id AND user_id = p_user_id FOR UPDATE;
    SELECT * INTO v_before FROM memory_blocks
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id
      AND revision = p_revision FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_after := jsonb_populate_record(v_before, p_changes);

    -- Blocks that it supersedes are superseded from its time on.
    PERFORM raise_memory_version(p_project_id, p_user_id, p_block_id || ARRAY(
        SELECT id FROM memory_blocks
        WHERE project_id = p_project_id AND user_id = p_user_id AND superseded_by = p_block_id
          AND p_changes ? 'occurred_at'), v_now);
    INSERT INTO memory_block_revisions (project_id, user_id, block_id, revision, reason, changed_by,
        before, created_at)
    VALUES (p_project_id, p_user_id, p_block_id, p_revision, 'edit', p_changed_by,
        to_jsonb(v_before) - ARRAY['project_id', 'user_id', 'id', 'idempotency_key', 'content_hash',
            'request_hash', 'job_id', 'revision'], v_now);

    -- The changed fields among those a client may send; callers validate names and values.
    EXECUTE (
        SELECT format('UPDATE memory_blocks SET content_hash = coalesce($5, content_hash),
                revision = $6, updated_at = $7, (%s) = ROW(%s)
                WHERE project_id = $2 AND user_id = $3 AND id = $4',
            string_agg(quote_ident(f.name), ', '), string_agg('($1).' || quote_ident(f.name), ', '))
        FROM (SELECT a.attname AS name FROM pg_attribute AS a
              WHERE a.attrelid = 'memory_block_input'::regclass AND p_changes ? a.attname::text
                AND a.attname NOT IN ('id', 'project_id', 'user_id', 'content', 'external_id',
                    'idempotency_key', 'content_hash', 'request_hash', 'job_id', 'created_at', 'updated_at')
              UNION ALL SELECT 'content') AS f  -- never an empty list
    ) USING v_after, p_project_id, p_user_id, p_block_id, p_content_hash, p_revision + 1, v_now;

    PERFORM stale_memory_summaries(p_project_id, p_user_id, p_block_id,
        ARRAY[coalesce(v_before.occurred_at, v_before.created_at),
              coalesce(v_after.occurred_at, v_after.created_at)], v_now);

    IF NOT v_anew THEN
        UPDATE memory_passages SET session_id = v_after.session_id, expires_at = v_after.expires_at
        WHERE project_id = p_project_id AND user_id = p_user_id AND block_id = p_block_id;
        v_runs := v_before.status = 'pending_enrichment' OR EXISTS (SELECT FROM memory_jobs
            WHERE block_id = p_block_id AND status = 'processing' AND job_type = 'enrich_and_embed'
              AND project_id = p_project_id AND user_id = p_user_id);
        IF v_job IS NULL AND v_runs THEN
            PERFORM enqueue_memory_jobs(ARRAY[p_project_id], ARRAY[p_user_id],
                ARRAY['enrich_and_embed'], ARRAY[p_block_id], ARRAY[NULL::jsonb], ARRAY[0],
                ARRAY[NULL::timestamptz], ARRAY[NULL::text], p_max_attempts);
        END IF;
        RETURN NEXT p_revision + 1;
        RETURN;
    END IF;

    UPDATE memory_blocks
    SET title = NULL, summary = NULL, tags = '{}', entities = '[]', importance = NULL,
        language = NULL, enrichment = 'none', status = 'pending_enrichment', error = NULL
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id;
    -- They were derived from the old text; relations that a user rejected stay rejected.
    PERFORM unrelate_memory_block(p_project_id, p_user_id, p_block_id, false, p_changed_by, v_now);
    PERFORM forget_memory_windows(p_project_id, p_user_id, p_block_id);
    DELETE FROM memory_passages
    WHERE project_id = p_project_id AND user_id = p_user_id AND block_id = p_block_id;
    INSERT INTO memory_passages (project_id, user_id, block_id, ordinal, start_at, stop_at,
        session_id, occurred_at, expires_at, speaker_key, lexemes)
    SELECT p_project_id, p_user_id, p_block_id, p.ordinal, p.start_at, p.stop_at,
           v_after.session_id, coalesce(v_after.occurred_at, v_after.created_at),
           v_after.expires_at, memory_speaker_key(v_after.speaker), p.lexemes
    FROM unnest(p_passage_ordinal, p_passage_start, p_passage_stop, p_passage_lexemes)
         AS p (ordinal, start_at, stop_at, lexemes);

    IF v_job IS NULL THEN
        PERFORM enqueue_memory_jobs(ARRAY[p_project_id], ARRAY[p_user_id],
            ARRAY['enrich_and_embed'], ARRAY[p_block_id], ARRAY[NULL::jsonb], ARRAY[0],
            ARRAY[NULL::timestamptz], ARRAY[NULL::text], p_max_attempts);
    ELSE
        -- Its attempts were spent on the old text.
        UPDATE memory_jobs
        SET attempts = 0, run_at = v_now, fair_at = least(fair_at, memory_queue_place(v_now)),
            error_class = NULL, last_error = NULL
        WHERE id = v_job;
    END IF;
    RETURN NEXT p_revision + 1;
END $body$;

-- Delete a block, whatever revision it has or only p_revision, with all that refers to it. Its open
-- jobs are cancelled; the result of a running one is rejected. Returns 'deleted',
-- 'missing' or 'stale'.
CREATE OR REPLACE FUNCTION delete_memory_block(
    p_project_id text, p_user_id text, p_block_id uuid, p_revision integer
) RETURNS text LANGUAGE plpgsql SET lock_timeout = '250ms' AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_jobs bigint[];
    v_revision integer;
BEGIN
    v_jobs := ARRAY(SELECT id FROM memory_jobs
        WHERE block_id = p_block_id AND status IN ('pending', 'processing')
          AND project_id = p_project_id AND user_id = p_user_id
        ORDER BY id FOR UPDATE);
    PERFORM FROM memory_users
    WHERE project_id = p_project_id AND user_id = p_user_id FOR UPDATE;
    SELECT revision INTO v_revision FROM memory_blocks
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id FOR UPDATE;
    IF v_revision IS NULL THEN
        RETURN 'missing';
    ELSIF v_revision <> p_revision THEN
        RETURN 'stale';
    END IF;

    PERFORM raise_memory_version(p_project_id, p_user_id, ARRAY[p_block_id], v_now);
    UPDATE memory_jobs
    SET status = 'cancelled', finished_at = v_now, locked_until = NULL,
        last_error = 'its block was deleted'
    WHERE id = ANY (v_jobs);

    -- A late repetition of the request that created it gets the first response, and no second block.
    INSERT INTO memory_idempotency (project_id, user_id, idempotency_key, operation, request_hash,
        block_id, job_id, created_at)
    SELECT project_id, user_id, idempotency_key, 'POST /blocks', request_hash, id, job_id, v_now
    FROM memory_blocks
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id
      AND idempotency_key IS NOT NULL
    ON CONFLICT DO NOTHING;
    -- Stored responses to idempotent requests contain the old text.
    DELETE FROM memory_idempotency
    WHERE project_id = p_project_id AND user_id = p_user_id AND block_id = p_block_id
      AND body IS NOT NULL;
    PERFORM unrelate_memory_block(p_project_id, p_user_id, p_block_id, true,
        'deletion of ' || p_block_id, v_now);
    -- Remove its sentences from summaries at once; the rest stays until the summary is written again.
    UPDATE memory_summaries AS s
    SET stale = true, updated_at = v_now, comparison = NULL,
        block_ids = array_remove(s.block_ids, p_block_id),
        highlights = k.kept, text = k.kept_text
    FROM (SELECT m.week_start,
                 coalesce(jsonb_agg(h.value ORDER BY h.n) FILTER (WHERE NOT h.value -> 'block_ids'
                     ? p_block_id::text), '[]') AS kept,
                 coalesce(string_agg(h.value ->> 'text', E'\n' ORDER BY h.n) FILTER (
                     WHERE NOT h.value -> 'block_ids' ? p_block_id::text), '') AS kept_text
          FROM memory_summaries AS m
          LEFT JOIN LATERAL jsonb_array_elements(m.highlights) WITH ORDINALITY AS h (value, n) ON true
          WHERE m.project_id = p_project_id AND m.user_id = p_user_id
            AND p_block_id = ANY (m.block_ids)
          GROUP BY m.week_start) AS k
    WHERE s.project_id = p_project_id AND s.user_id = p_user_id AND s.week_start = k.week_start;
    PERFORM stale_memory_summaries(p_project_id, p_user_id, p_block_id,
        ARRAY[(SELECT coalesce(occurred_at, created_at) FROM memory_blocks
               WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id)], v_now);
    DELETE FROM memory_block_revisions
    WHERE project_id = p_project_id AND user_id = p_user_id AND block_id = p_block_id;
    PERFORM forget_memory_windows(p_project_id, p_user_id, p_block_id);
    DELETE FROM memory_passages
    WHERE project_id = p_project_id AND user_id = p_user_id AND block_id = p_block_id;
    DELETE FROM memory_blocks
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id;
    RETURN 'deleted';
END $body$;

-- Delete blocks of one user, each with all that refers to it; returns how many there were. Their open jobs
-- are locked first, all of them: one after the other they would be taken after the user's row, against the
-- order of locks.
CREATE OR REPLACE FUNCTION delete_memory_blocks(p_project_id text, p_user_id text, p_block_ids uuid[])
RETURNS integer LANGUAGE plpgsql SET lock_timeout = '250ms' AS $body$
DECLARE
    v_block_id uuid;
    v_deleted integer := 0;
BEGIN
    PERFORM FROM memory_jobs
    WHERE block_id = ANY (p_block_ids) AND status IN ('pending', 'processing')
      AND project_id = p_project_id AND user_id = p_user_id
    ORDER BY id FOR UPDATE;
    FOREACH v_block_id IN ARRAY p_block_ids LOOP
        IF delete_memory_block(p_project_id, p_user_id, v_block_id, NULL) = 'deleted' THEN
            v_deleted := v_deleted + 1;
        END IF;
    END LOOP;
    RETURN v_deleted;
END $body$;

-- What stands for a user in the record of an erasure. It is made with a secret, for user ids can be
-- guessed one by one.
CREATE OR REPLACE FUNCTION memory_user_digest(p_project_id text, p_user_id text)
RETURNS bytea LANGUAGE sql STABLE AS $body$
    SELECT sha256((SELECT value FROM memory_secrets WHERE name = 'receipts')
        || convert_to(p_project_id, 'UTF8') || '\x00'::bytea || convert_to(p_user_id, 'UTF8'))
$body$;

-- Delete a user's jobs among the ids (p_after, p_after + p_span]. No index finds a user's ended jobs,
-- for maintaining one would slow down every job; so an erasure scans the table in steps, before it
-- locks anything. Returns how many were deleted.
CREATE OR REPLACE FUNCTION sweep_memory_jobs(
    p_project_id text, p_user_id text, p_after bigint, p_span bigint
) RETURNS bigint LANGUAGE plpgsql AS $body$
DECLARE
    v_deleted bigint;
BEGIN
    DELETE FROM memory_jobs
    WHERE id > p_after AND id <= p_after + p_span
      AND project_id = p_project_id AND user_id = p_user_id;
    GET DIAGNOSTICS v_deleted = ROW_COUNT;
    RETURN v_deleted;
END $body$;

-- Erase a user: every row of every table that names one, in one transaction, and record that it
-- happened. p_last_job: jobs up to this id were deleted before. Tables are found by their columns,
-- so that one added later cannot be forgotten.
--
-- Concurrent work stores nothing again: a worker's result is written only together with its
-- job, which is gone, and a transaction that accepts a block holds or awaits the user's row. A job that is
-- being completed at this moment holds its row and awaits the user's: then this gives up
-- (lock_not_available) and is to be called again.
CREATE OR REPLACE FUNCTION erase_memory_user(
    p_project_id text, p_user_id text, p_id uuid, p_key_digest bytea,
    p_started_at timestamptz, p_last_job bigint, p_swept bigint, p_cached bigint
) RETURNS TABLE (counts jsonb, erased_at timestamptz) LANGUAGE plpgsql SET lock_timeout = '2s' AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_table text;
    v_deleted bigint;
    v_jobs bigint;
    -- Ids are assigned before commit: some below the last one may have been committed later. Where the partition was
    -- moved, ids are in ranges of 2^36 each, of which any may be the one in use.
    v_after bigint[] := ARRAY[p_last_job - 100000];
    v_before bigint[] := ARRAY[((p_last_job >> 36) + 1) << 36];
    v_last bigint := 9223372036854775807;
    v_counts jsonb := '{}';
    v_revoked_at timestamptz := now();
BEGIN
    LOOP
        SELECT max(id) INTO v_last FROM memory_jobs WHERE id < v_last;
        EXIT WHEN v_last IS NULL;
        IF v_last >> 36 <> p_last_job >> 36 THEN
            v_after := v_after || (v_last - 100000);
            v_before := v_before || (((v_last >> 36) + 1) << 36);
        END IF;
        v_last := (v_last >> 36) << 36;
    END LOOP;
    -- Before the user's row, in the order of locks; waits for jobs that are being completed.
    DELETE FROM memory_jobs AS j USING unnest(v_after, v_before) AS r (after, before)
    WHERE j.id > r.after AND j.id < r.before AND j.project_id = p_project_id AND j.user_id = p_user_id;
    GET DIAGNOSTICS v_jobs = ROW_COUNT;
    -- A transaction that accepts a block of this user has committed, or waits until this one has.
    INSERT INTO memory_users (project_id, user_id) VALUES (p_project_id, p_user_id)
    ON CONFLICT (project_id, user_id) DO UPDATE SET version = memory_users.version;
    -- The same holds for a transaction that records spending for the user.
    PERFORM FROM memory_users
    WHERE project_id = p_project_id AND user_id = p_user_id FOR UPDATE;
    PERFORM FROM memory_jobs AS j JOIN unnest(v_after, v_before) AS r (after, before) ON j.id > r.after AND j.id < r.before
    WHERE j.project_id = p_project_id AND j.user_id = p_user_id FOR UPDATE OF j NOWAIT;
    DELETE FROM memory_jobs AS j USING unnest(v_after, v_before) AS r (after, before)
    WHERE j.id > r.after AND j.id < r.before AND j.project_id = p_project_id AND j.user_id = p_user_id;
    GET DIAGNOSTICS v_deleted = ROW_COUNT;
    v_counts := jsonb_build_object('jobs', p_swept + v_jobs + v_deleted,
        'cached_entries', p_cached);

    -- A key for this user grants nothing any more. The row stays, without the user: the API requires
    -- a key as long as any key row exists.
    UPDATE memory_api_keys SET revoked_at = coalesce(revoked_at, v_revoked_at), user_id = '', name = NULL
    WHERE project_id = p_project_id AND user_id = p_user_id;
    GET DIAGNOSTICS v_deleted = ROW_COUNT;
    v_counts := v_counts || jsonb_build_object('api_keys', v_deleted);

    FOR v_table IN
        SELECT c.relname FROM pg_class AS c
        WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind IN ('r', 'p')
          AND c.relname LIKE 'memory\_%' AND c.relname !~ '[0-9]$'  -- not a shard of Citus
          AND c.relname NOT IN ('memory_jobs', 'memory_users', 'memory_api_keys')
          AND 2 = (SELECT count(*) FROM pg_attribute AS a
                   WHERE a.attrelid = c.oid AND a.attname IN ('project_id', 'user_id')
                     AND NOT a.attisdropped)
        ORDER BY c.relname
    LOOP
        EXECUTE format('DELETE FROM %I WHERE project_id = $1 AND user_id = $2', v_table)
        USING p_project_id, p_user_id;
        GET DIAGNOSTICS v_deleted = ROW_COUNT;
        v_counts := v_counts || jsonb_build_object(substr(v_table, 8), v_deleted);
    END LOOP;
    DELETE FROM memory_users WHERE project_id = p_project_id AND user_id = p_user_id;

    v_now := clock_timestamp();
    INSERT INTO memory_erasures (id, project_id, user_digest, key_digest, counts, started_at, erased_at)
    VALUES (p_id, p_project_id, memory_user_digest(p_project_id, p_user_id), p_key_digest, v_counts,
        p_started_at, v_now);
    -- Under no user, so that it stays when the user is counted or erased once more.
    PERFORM record_memory_events('user.erased', ARRAY[p_project_id], ARRAY[''], ARRAY[NULL::uuid],
        ARRAY[jsonb_build_object('user_id', p_user_id, 'receipt_id', p_id)]);
    RETURN QUERY SELECT v_counts, v_now;
END $body$;

-- How many rows of every table name this user; keys and receipts of erasures are not counted.
CREATE OR REPLACE FUNCTION count_memory_rows(p_project_id text, p_user_id text)
RETURNS TABLE (name text, count bigint) LANGUAGE plpgsql STABLE AS $body$
DECLARE
    v_table text;
BEGIN
    FOR v_table IN
        SELECT c.relname FROM pg_class AS c
        WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind IN ('r', 'p')
          AND c.relname LIKE 'memory\_%' AND c.relname !~ '[0-9]$'  -- not a shard of Citus
          AND 2 = (SELECT pg_catalog.count(*) FROM pg_attribute AS a
                   WHERE a.attrelid = c.oid AND a.attname IN ('project_id', 'user_id')
                     AND NOT a.attisdropped)
        ORDER BY c.relname
    LOOP
        RETURN QUERY EXECUTE format(
            'SELECT %L, pg_catalog.count(*) FROM %I WHERE project_id = $1 AND user_id = $2',
            substr(v_table, 8), v_table)
        USING p_project_id, p_user_id;
    END LOOP;
END $body$;

-- The job id of an imported block: the exported one, unless no job of this user can have had that
-- id; then a new id that no job will get.
CREATE OR REPLACE FUNCTION memory_own_job_id(p_project_id text, p_user_id text, p_job_id bigint)
RETURNS bigint LANGUAGE plpgsql AS $body$
BEGIN
    IF p_job_id BETWEEN 1 AND (SELECT last_value FROM memory_jobs_id_seq)
       AND NOT EXISTS (SELECT FROM memory_jobs AS j WHERE j.id = p_job_id
           AND (j.project_id, j.user_id) IS DISTINCT FROM (p_project_id, p_user_id)) THEN
        RETURN p_job_id;
    END IF;
    RETURN nextval('memory_jobs_id_seq');
END $body$;

-- Store exported rows of one table for a user. Existing rows stay unchanged. Columns this
-- version does not know are left out, those the rows do not have get their default. Returns how many
-- were stored.
CREATE OR REPLACE FUNCTION import_memory_rows(
    p_project_id text, p_user_id text, p_table text, p_rows jsonb[]
) RETURNS bigint LANGUAGE plpgsql AS $body$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_columns text;
    v_values text;
    v_identities text[];
    v_find_stored text;
    v_known bigint[];
    v_user jsonb;
    v_ingest_at timestamptz;
    v_hour timestamptz;
    v_stored bigint;
BEGIN
    INSERT INTO memory_users (project_id, user_id) VALUES (p_project_id, p_user_id)
    ON CONFLICT (project_id, user_id) DO NOTHING;
    PERFORM raise_memory_version(p_project_id, p_user_id, NULL, v_now);
    IF p_table = 'memory_users' THEN
        -- An unknown time zone fails here, and not later in the weekly summaries of all users.
        v_user := p_rows[1];
        PERFORM v_now AT TIME ZONE (v_user ->> 'time_zone');
        v_ingest_at := v_user ->> 'last_ingest_at';
        v_hour := date_trunc('hour', v_ingest_at, 'UTC');
        UPDATE memory_users
        SET time_zone = coalesce(v_user ->> 'time_zone', time_zone),
            last_ingest_at = coalesce(v_ingest_at, last_ingest_at),
            active_hour = coalesce(v_hour, active_hour)
        WHERE project_id = p_project_id AND user_id = p_user_id;
        RETURN 1;
    END IF;
    -- Values of identity columns come from sequences that all users share: an imported one could exhaust
    -- them. Such a row is recognized by its other columns, so that an import can be repeated.
    v_identities := ARRAY(SELECT a.attname::text FROM pg_attribute AS a
        WHERE a.attrelid = p_table::regclass AND a.attidentity <> '' AND NOT a.attisdropped);
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),
           string_agg(CASE WHEN a.attname = 'job_id' THEN 'memory_own_job_id($2, $3, n.job_id)'
                           ELSE 'n.' || quote_ident(a.attname) END, ', ' ORDER BY a.attnum)
    INTO v_columns, v_values
    FROM pg_attribute AS a
    WHERE a.attrelid = p_table::regclass AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attgenerated = '' AND a.attname <> ALL (v_identities)
      AND (a.attname IN ('project_id', 'user_id', 'job_id') OR p_rows[1] ? a.attname);
    IF v_identities <> '{}' THEN
        SELECT format('SELECT array_agg(DISTINCT r.position)
             FROM unnest($1) WITH ORDINALITY AS r (data, position),
                 jsonb_populate_record(NULL::%1$I,
                     r.data || jsonb_build_object(''project_id'', $2, ''user_id'', $3)) AS n, %1$I AS e
             WHERE %2$s AND (to_jsonb(e) - $4) @> (jsonb_strip_nulls(to_jsonb(n)) - $4)',
            p_table, string_agg(format('e.%1$I = n.%1$I', a.attname), ' AND '))
        INTO v_find_stored
        FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = p_table::regclass AND i.indisprimary AND a.attname <> ALL (v_identities);
        EXECUTE v_find_stored INTO v_known USING p_rows, p_project_id, p_user_id, v_identities;
        p_rows := ARRAY(SELECT r.data FROM unnest(p_rows) WITH ORDINALITY AS r (data, position)
                        WHERE v_known IS NULL OR r.position <> ALL (v_known) ORDER BY r.position);
    END IF;
    EXECUTE format(
        'INSERT INTO %1$I (%2$s)
         SELECT %3$s
         FROM unnest($1) WITH ORDINALITY AS r (data, position),
             jsonb_populate_record(NULL::%1$I,
                 r.data || jsonb_build_object(''project_id'', $2, ''user_id'', $3)) AS n
         ORDER BY r.position
         ON CONFLICT DO NOTHING', p_table, v_columns, v_values)
    USING p_rows, p_project_id, p_user_id;
    GET DIAGNOSTICS v_stored = ROW_COUNT;
    RETURN v_stored;
END $body$;
