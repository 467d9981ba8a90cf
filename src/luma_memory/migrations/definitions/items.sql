-- Items: blocks that are written and read by a name. See 0019_items.

-- Carry out operations on items, in order; one row for each, in order.
--
-- p_ops: an array of objects.
--   project_id, user_id  whose
--   op                   'put' or 'delete'
--   name_id              the name's digest, as the index memory_blocks_item has it
--   if_absent            true: only where there is no such item
--   if_id, if_revision   only where the item is still that one: '' and 0 fit none, 'any' and NULL any
--   request_key, request_hash   the operation was sent with an idempotency key: repeated, it gets its first
--                        outcome again. Only operations with a condition need one.
--   of 'put': id (of a new item), namespace, key, value, content (the text that is searched), ttl_seconds,
--   refresh_on_read, changed_by
-- p_passage_* describe the passages of the contents, p_passage_item being the 1-based position in p_ops.
-- Outcomes: created, replaced, deleted; missing (delete found nothing), exists and stale (the condition
-- did not hold), reused (the idempotency key came with another request).
--
-- The users' rows are locked first, in order, until the transaction ends: that makes positions rise in the
-- order of commits, and a condition final. At most 1,000 operations a user.
CREATE OR REPLACE FUNCTION write_memory_items(
    p_ops jsonb,
    p_passage_item integer[], p_passage_ordinal integer[], p_passage_start integer[],
    p_passage_stop integer[], p_passage_lexemes sparsevec[],
    p_max_attempts integer, p_fair_step interval
) RETURNS TABLE (outcome text, item_id uuid, item_revision integer, created timestamptz, updated timestamptz,
                 expires timestamptz)
LANGUAGE plpgsql SET lock_timeout = '250ms'
-- Planning each statement anew takes a fifth of a put; all of them read by keys.
SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_head timestamptz := memory_queue_place(v_now);
    v_place timestamptz[];
    v_positions bigint[];
    v_projects text[];  -- one an operation, as are the next two
    v_users text[];
    v_previous bigint[];
    v_changed uuid[] := '{}';  -- items whose passages change, and the operations that change them
    v_changed_ops bigint[] := '{}';
    v_locked uuid[];  -- blocks whose pending job is locked here: it will read what is written now
    v_op jsonb;
    v_n bigint;
    v_old memory_blocks;
    v_new boolean;  -- whether the text is another one
    v_value boolean;  -- whether the value is
    v_job bigint;
    v_expires timestamptz;
    v_stored record;
    v_namespace text[];
    v_text_blocks uuid[] := '{}';  -- blocks whose passages are to be stored, and the operations they come from
    v_text_ops bigint[] := '{}';
    v_job_blocks uuid[] := '{}';  -- blocks that need a job, its id, and the operation
    v_job_ids bigint[] := '{}';
    v_job_ops bigint[] := '{}';
BEGIN
    v_locked := ARRAY(
        SELECT j.block_id FROM jsonb_array_elements(p_ops) AS o (op)
        CROSS JOIN LATERAL (SELECT b.id FROM memory_blocks AS b
            -- The expression of the index memory_blocks_item_name: without statistics, any index that begins
            -- with the scope would be chosen.
            WHERE hashtextextended(b.user_id, hashtextextended(b.project_id, 0))
                  = hashtextextended(o.op ->> 'user_id', hashtextextended(o.op ->> 'project_id', 0))
              AND b.name_id = (o.op ->> 'name_id')::uuid AND b.key IS NOT NULL
              AND (b.project_id, b.user_id) IS NOT DISTINCT FROM (o.op ->> 'project_id', o.op ->> 'user_id')
            OFFSET 0) AS b
        JOIN memory_jobs AS j ON j.block_id = b.id AND j.status = 'pending'
            AND j.job_type = 'enrich_and_embed'
            AND j.project_id = o.op ->> 'project_id' AND j.user_id = o.op ->> 'user_id'
        WHERE o.op ->> 'op' = 'put'
        FOR UPDATE OF j SKIP LOCKED);

    WITH touched AS (
        INSERT INTO memory_users AS u (project_id, user_id, version, last_ingest_at, active_hour, fair_at)
        SELECT s.project_id, s.user_id, memory_next_version(0, v_now), v_now,
               date_trunc('hour', v_now, 'UTC'), v_head + p_fair_step * s.items
        FROM (SELECT o.op ->> 'project_id' AS project_id, o.op ->> 'user_id' AS user_id, count(*) AS items
              FROM jsonb_array_elements(p_ops) AS o (op) GROUP BY 1, 2 ORDER BY 1, 2) AS s
        ON CONFLICT (project_id, user_id) DO UPDATE
        SET version = memory_next_version(u.version, v_now), previous = u.version,
            last_ingest_at = v_now, active_hour = excluded.active_hour,
            fair_at = memory_later(greatest(v_head, u.fair_at), excluded.fair_at - v_head)
        RETURNING u.project_id, u.user_id, u.fair_at, u.version, u.previous
    )
    SELECT array_agg(t.fair_at - p_fair_step * (o.items - o.turn) ORDER BY o.n),
           -- Versions are microseconds and never come twice.
           array_agg(t.version * 1000 + o.turn - 1 ORDER BY o.n),
           array_agg(t.project_id ORDER BY o.n), array_agg(t.user_id ORDER BY o.n),
           array_agg(t.previous ORDER BY o.n)
    INTO v_place, v_positions, v_projects, v_users, v_previous
    FROM (SELECT x.*, row_number() OVER (PARTITION BY x.project_id, x.user_id ORDER BY x.n) AS turn,
                 count(*) OVER (PARTITION BY x.project_id, x.user_id) AS items
          FROM (SELECT o.op ->> 'project_id' AS project_id, o.op ->> 'user_id' AS user_id, o.n
                FROM jsonb_array_elements(p_ops) WITH ORDINALITY AS o (op, n)) AS x) AS o
    JOIN touched AS t USING (project_id, user_id);
    -- After the lock: what another transaction wrote until then happened before.
    v_now := clock_timestamp();

    FOR v_op, v_n IN SELECT o.op, o.n FROM jsonb_array_elements(p_ops) WITH ORDINALITY AS o (op, n) LOOP
        outcome := NULL; item_id := NULL; item_revision := NULL; created := NULL; updated := NULL;
        expires := NULL;
        IF v_op ? 'request_key' THEN
            SELECT k.request_hash, k.body::jsonb AS stored_body INTO v_stored FROM memory_idempotency AS k
            WHERE k.project_id = v_op ->> 'project_id' AND k.user_id = v_op ->> 'user_id'
              AND k.idempotency_key = v_op ->> 'request_key';
            IF FOUND THEN
                outcome := 'reused';
                IF v_stored.request_hash = (v_op ->> 'request_hash')::bytea THEN
                    outcome := v_stored.stored_body ->> 'outcome';
                    item_id := (v_stored.stored_body ->> 'id')::uuid;
                    item_revision := (v_stored.stored_body ->> 'revision')::integer;
                    created := (v_stored.stored_body ->> 'created')::timestamptz;
                    updated := (v_stored.stored_body ->> 'updated')::timestamptz;
                    expires := (v_stored.stored_body ->> 'expires')::timestamptz;
                END IF;
                RETURN NEXT;
                CONTINUE;
            END IF;
        END IF;

        SELECT * INTO v_old FROM memory_blocks
        WHERE hashtextextended(user_id, hashtextextended(project_id, 0))
              = hashtextextended(v_op ->> 'user_id', hashtextextended(v_op ->> 'project_id', 0))
          AND name_id = (v_op ->> 'name_id')::uuid AND key IS NOT NULL
          AND (project_id, user_id) IS NOT DISTINCT FROM (v_op ->> 'project_id', v_op ->> 'user_id')
        FOR UPDATE;
        IF v_old.expires_at <= v_now THEN
            PERFORM drop_memory_item(v_old.project_id, v_old.user_id, v_old.id);
            v_changed := v_changed || v_old.id;
            v_changed_ops := v_changed_ops || v_n;
            v_old := NULL;
        END IF;
        IF v_old.id IS NOT NULL AND (v_op ->> 'if_absent')::boolean THEN
            outcome := 'exists';
        ELSIF v_op ? 'if_id' AND (v_old.id IS NULL OR NOT (v_op ->> 'if_id' = 'any'
                OR (v_op ->> 'if_id' = v_old.id::text
                    AND (v_op ->> 'if_revision')::integer = v_old.revision))) THEN
            outcome := 'stale';
        ELSIF v_op ->> 'op' = 'delete' THEN
            outcome := 'missing';
            IF v_old.id IS NOT NULL THEN
                outcome := 'deleted';
                PERFORM drop_memory_item(v_old.project_id, v_old.user_id, v_old.id);
                v_changed := v_changed || v_old.id;
                v_changed_ops := v_changed_ops || v_n;
                IF v_old.id = ANY (v_job_blocks) THEN
                    v_job_blocks[array_position(v_job_blocks, v_old.id)] := NULL;
                END IF;
            END IF;
        ELSE
            v_expires := v_now + (v_op ->> 'ttl_seconds')::double precision * interval '1 second';
            v_job := NULL;
            IF v_old.id IS NULL THEN
                outcome := 'created';
                item_id := (v_op ->> 'id')::uuid;
                item_revision := 1;
                created := v_now;
                IF v_op ->> 'content' <> '' THEN
                    v_job := nextval('memory_jobs_id_seq');
                    v_text_blocks := v_text_blocks || item_id;
                    v_text_ops := v_text_ops || v_n;
                    v_changed := v_changed || item_id;
                    v_changed_ops := v_changed_ops || v_n;
                END IF;
                v_namespace := ARRAY(SELECT jsonb_array_elements_text(v_op -> 'namespace'));
                INSERT INTO memory_blocks (id, project_id, user_id, content, namespace, key, value, name_id,
                    position, ttl_seconds, refresh_on_read, expires_at, created_at, updated_at, status,
                    job_id)
                VALUES (item_id, v_op ->> 'project_id', v_op ->> 'user_id', v_op ->> 'content',
                    v_namespace, v_op ->> 'key',
                    v_op -> 'value', (v_op ->> 'name_id')::uuid, v_positions[v_n],
                    (v_op ->> 'ttl_seconds')::double precision, (v_op ->> 'refresh_on_read')::boolean,
                    v_expires, v_now, v_now,
                    CASE WHEN v_job IS NULL THEN 'active' ELSE 'pending_enrichment' END, v_job);
            ELSE
                outcome := 'replaced';
                item_id := v_old.id;
                created := v_old.created_at;
                v_new := v_old.content <> v_op ->> 'content';
                v_value := v_old.value <> v_op -> 'value';
                item_revision := v_old.revision + CASE WHEN v_value OR v_new THEN 1 ELSE 0 END;
                IF item_revision > v_old.revision THEN
                    INSERT INTO memory_block_revisions (project_id, user_id, block_id, revision, reason,
                        changed_by, before, created_at)
                    VALUES (v_old.project_id, v_old.user_id, v_old.id, v_old.revision, 'edit',
                        v_op ->> 'changed_by',
                        jsonb_build_object('content', v_old.content, 'value', v_old.value,
                            'expires_at', v_old.expires_at), v_now);
                END IF;
                -- A job that runs has read an earlier revision, and its result will be dropped.
                IF v_op ->> 'content' <> '' AND v_old.id <> ALL (v_locked) AND v_old.id <> ALL (v_job_blocks)
                   AND (v_new OR (v_value AND (v_old.status = 'pending_enrichment'
                       OR EXISTS (SELECT FROM memory_jobs
                           WHERE block_id = v_old.id AND status = 'processing'
                             AND job_type = 'enrich_and_embed'
                             AND project_id = v_old.project_id AND user_id = v_old.user_id)))) THEN
                    v_job := nextval('memory_jobs_id_seq');
                END IF;
                UPDATE memory_blocks
                SET value = v_op -> 'value', content = v_op ->> 'content', revision = item_revision,
                    ttl_seconds = (v_op ->> 'ttl_seconds')::double precision,
                    refresh_on_read = (v_op ->> 'refresh_on_read')::boolean,
                    expires_at = v_expires, updated_at = v_now, job_id = coalesce(v_job, job_id),
                    status = CASE WHEN NOT v_new THEN status
                                  WHEN v_op ->> 'content' = '' THEN 'active'
                                  ELSE 'pending_enrichment' END,
                    error = CASE WHEN v_new THEN NULL ELSE error END,
                    backfill_steps = CASE WHEN v_new THEN NULL ELSE backfill_steps END,
                    backfill_at = CASE WHEN v_new THEN NULL ELSE backfill_at END
                WHERE project_id = v_old.project_id AND user_id = v_old.user_id AND id = v_old.id;
                IF v_new OR v_expires IS DISTINCT FROM v_old.expires_at THEN
                    v_changed := v_changed || v_old.id;
                    v_changed_ops := v_changed_ops || v_n;
                END IF;
                IF v_new THEN
                    DELETE FROM memory_passages WHERE project_id = v_old.project_id
                        AND user_id = v_old.user_id AND block_id = v_old.id;
                    -- Of an earlier operation here.
                    v_text_blocks := array_replace(v_text_blocks, v_old.id, NULL);
                    IF v_op ->> 'content' <> '' THEN
                        v_text_blocks := v_text_blocks || v_old.id;
                        v_text_ops := v_text_ops || v_n;
                    END IF;
                ELSIF v_expires IS DISTINCT FROM v_old.expires_at THEN
                    UPDATE memory_passages SET expires_at = v_expires WHERE project_id = v_old.project_id
                        AND user_id = v_old.user_id AND block_id = v_old.id;
                END IF;
            END IF;
            updated := v_now;
            expires := v_expires;
            IF v_job IS NOT NULL THEN
                v_job_blocks := v_job_blocks || item_id;
                v_job_ids := v_job_ids || v_job;
                v_job_ops := v_job_ops || v_n;
            END IF;
        END IF;

        IF v_op ? 'request_key' AND outcome IN ('created', 'replaced', 'deleted') THEN
            INSERT INTO memory_idempotency (project_id, user_id, idempotency_key, operation, request_hash,
                block_id, body, created_at)
            VALUES (v_op ->> 'project_id', v_op ->> 'user_id', v_op ->> 'request_key', 'items',
                (v_op ->> 'request_hash')::bytea, item_id,
                jsonb_build_object('outcome', outcome, 'id', item_id, 'revision', item_revision,
                    'created', created, 'updated', updated, 'expires', expires), v_now);
        END IF;
        RETURN NEXT;
    END LOOP;

    INSERT INTO memory_changes (project_id, user_id, version, previous, block_ids, has_items)
    SELECT o.project_id, o.user_id, o.position / 1000, o.previous,
           coalesce(array_agg(c.id) FILTER (WHERE c.id IS NOT NULL), '{}'), true
    FROM unnest(v_projects, v_users, v_positions, v_previous)
         WITH ORDINALITY AS o (project_id, user_id, position, previous, n)
    LEFT JOIN unnest(v_changed, v_changed_ops) AS c (id, n) USING (n)
    GROUP BY o.project_id, o.user_id, o.position / 1000, o.previous;
    IF v_text_blocks <> '{}' THEN
        INSERT INTO memory_passages (project_id, user_id, block_id, ordinal, start_at, stop_at,
            occurred_at, expires_at, lexemes, item)
        SELECT b.project_id, b.user_id, b.id, p.ordinal, p.start_at, p.stop_at, b.created_at, b.expires_at,
               p.lexemes, true
        FROM unnest(v_text_blocks, v_text_ops) AS t (id, n)
        JOIN unnest(p_passage_item, p_passage_ordinal, p_passage_start, p_passage_stop, p_passage_lexemes)
             AS p (n, ordinal, start_at, stop_at, lexemes) USING (n)
        CROSS JOIN LATERAL (SELECT * FROM memory_blocks AS m
            WHERE m.project_id = p_ops -> (t.n - 1)::integer ->> 'project_id'
              AND m.user_id = p_ops -> (t.n - 1)::integer ->> 'user_id' AND m.id = t.id OFFSET 0) AS b;
    END IF;
    IF v_job_blocks <> '{}' THEN
        INSERT INTO memory_jobs (id, project_id, user_id, block_id, job_type, max_attempts, run_at, fair_at,
            created_at)
        SELECT j.id, p_ops -> (j.n - 1)::integer ->> 'project_id', p_ops -> (j.n - 1)::integer ->> 'user_id',
               j.block_id, 'enrich_and_embed', p_max_attempts, v_now, v_place[j.n], v_now
        FROM unnest(v_job_blocks, v_job_ids, v_job_ops) AS j (block_id, id, n)
        WHERE j.block_id IS NOT NULL;
    END IF;
END $body$;

-- Delete an item with its history. A job that waits for it finds nothing and is done.
CREATE OR REPLACE FUNCTION drop_memory_item(p_project_id text, p_user_id text, p_block_id uuid)
RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    DELETE FROM memory_block_revisions
    WHERE project_id = p_project_id AND user_id = p_user_id AND block_id = p_block_id;
    DELETE FROM memory_passages
    WHERE project_id = p_project_id AND user_id = p_user_id AND block_id = p_block_id;
    DELETE FROM memory_blocks
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id;
END $body$;

-- Delete items that have expired, the earliest first, at most p_limit; they are invisible since then. Returns
-- how many.
CREATE OR REPLACE FUNCTION delete_expired_memory_items(p_limit integer)
RETURNS integer LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_item record;
    v_deleted integer := 0;
BEGIN
    FOR v_item IN SELECT project_id, user_id, id FROM memory_blocks
        WHERE key IS NOT NULL AND expires_at <= clock_timestamp()
        ORDER BY expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM drop_memory_item(v_item.project_id, v_item.user_id, v_item.id);
        v_deleted := v_deleted + 1;
    END LOOP;
    RETURN v_deleted;
END $body$;
