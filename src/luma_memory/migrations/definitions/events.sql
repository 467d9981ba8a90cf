-- Events: written by the functions that make them true, so that a rolled-back change has none.

-- Record events of one type for those projects that have a subscriber: arrays of one length, p_data
-- NULL for an empty object. Each matching webhook gets a delivery, and one job per webhook delivers
-- them. The caller holds what orders the events of a user; due_at and the ids follow that order.
--
-- Called for every block: without any subscriber it reads two empty tables and writes nothing.
CREATE OR REPLACE FUNCTION record_memory_events(
    p_type text, p_project_ids text[], p_user_ids text[], p_block_ids uuid[], p_data jsonb[]
) RETURNS void LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_events record;
    v_deliveries record;
BEGIN
    IF NOT EXISTS (SELECT FROM memory_webhooks) AND NOT EXISTS (SELECT FROM memory_event_streams) THEN
        RETURN;
    END IF;
    v_now := clock_timestamp();
    WITH recorded AS (
        INSERT INTO memory_events (event_id, project_id, user_id, type, block_id, data, created_at)
        SELECT gen_random_uuid(), i.project_id, i.user_id, p_type, i.block_id, coalesce(i.data, '{}'),
               v_now
        FROM unnest(p_project_ids, p_user_ids, p_block_ids, p_data) WITH ORDINALITY
             AS i (project_id, user_id, block_id, data, n)
        WHERE EXISTS (SELECT FROM memory_event_streams AS s WHERE s.project_id = i.project_id)
           OR EXISTS (SELECT FROM memory_webhooks AS w
                      WHERE w.project_id = i.project_id AND w.disabled_at IS NULL
                        AND (w.user_id IS NULL OR w.user_id = i.user_id)
                        AND (w.event_types = '{}' OR p_type = ANY (w.event_types)))
        ORDER BY i.n
        RETURNING id, project_id, user_id
    )
    SELECT array_agg(r.id) AS ids, array_agg(r.project_id) AS projects, array_agg(r.user_id) AS users
    INTO v_events FROM recorded AS r;
    IF v_events.ids IS NULL THEN
        RETURN;
    END IF;
    WITH delivery AS (
        INSERT INTO memory_webhook_deliveries (webhook_id, event_id, project_id, user_id, due_at, created_at)
        SELECT w.id, e.id, e.project_id, e.user_id, v_now, v_now
        FROM unnest(v_events.ids, v_events.projects, v_events.users) AS e (id, project_id, user_id)
        JOIN memory_webhooks AS w ON w.project_id = e.project_id AND w.disabled_at IS NULL
         AND (w.user_id IS NULL OR w.user_id = e.user_id)
         AND (w.event_types = '{}' OR p_type = ANY (w.event_types))
        ORDER BY e.id, w.id
        RETURNING webhook_id, project_id
    )
    SELECT array_agg(d.webhook_id) AS webhooks, array_agg(d.project_id) AS projects
    INTO v_deliveries FROM (SELECT DISTINCT webhook_id, project_id FROM delivery) AS d;
    INSERT INTO memory_jobs (project_id, user_id, job_type, payload, priority, run_at, fair_at, created_at)
    SELECT d.project_id, '', 'deliver_webhook',
           jsonb_build_object('webhook_id', d.webhook_id), 10, v_now, v_now, v_now
    FROM unnest(v_deliveries.webhooks, v_deliveries.projects) AS d (webhook_id, project_id);
END $body$;

-- Record one delivery for one webhook, whatever its filter and status: a test of it, or an event
-- once more (p_event). Returns the id of the delivery.
CREATE OR REPLACE FUNCTION record_memory_delivery(
    p_project_id text, p_webhook_id uuid, p_event bigint, p_type text, p_data jsonb
) RETURNS bigint LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_event memory_events;
    v_delivery bigint;
BEGIN
    IF p_event IS NULL THEN
        -- In no stream: it happened to no user.
        INSERT INTO memory_events (event_id, project_id, user_id, type, data, created_at, position)
        VALUES (gen_random_uuid(), p_project_id, '', p_type, p_data, v_now, 0)
        RETURNING * INTO v_event;
    ELSE
        -- An erasure at this moment waits for this row, and deletes the delivery as well.
        SELECT * INTO v_event FROM memory_events
        WHERE id = p_event AND project_id = p_project_id FOR KEY SHARE;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    INSERT INTO memory_webhook_deliveries (webhook_id, event_id, project_id, user_id, due_at, created_at)
    VALUES (p_webhook_id, v_event.id, p_project_id, v_event.user_id, v_now, v_now)
    RETURNING id INTO v_delivery;
    INSERT INTO memory_jobs (project_id, user_id, job_type, payload, priority, run_at, fair_at, created_at)
    VALUES (p_project_id, '', 'deliver_webhook', jsonb_build_object('webhook_id', p_webhook_id), 10,
        v_now, v_now, v_now);
    RETURN v_delivery;
END $body$;

-- Jobs for webhooks with due deliveries that no job delivers: retries whose time has come, and what a
-- cleared queue left. At most one every 5 s for each webhook. Returns whether there are webhooks at
-- all, and how many jobs were made.
CREATE OR REPLACE FUNCTION prompt_memory_webhooks(p_now timestamptz)
RETURNS TABLE (present boolean, enqueued integer) LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_enqueued integer;
BEGIN
    IF NOT EXISTS (SELECT FROM memory_webhooks) THEN
        RETURN QUERY SELECT false, 0;
        RETURN;
    END IF;
    WITH due AS (
        UPDATE memory_webhooks AS w SET prompted_until = p_now + interval '5 s'
        WHERE w.id = ANY (ARRAY(
            SELECT h.id FROM memory_webhooks AS h
            WHERE h.disabled_at IS NULL AND coalesce(h.circuit_until, p_now) <= p_now
              AND coalesce(h.prompted_until, p_now) <= p_now
              AND (h.held_by IS NULL OR h.held_until <= p_now
                   OR NOT EXISTS (SELECT FROM memory_jobs AS j
                                  WHERE j.id = h.held_by AND j.status IN ('pending', 'processing')))
              AND EXISTS (SELECT FROM memory_webhook_deliveries AS d
                  WHERE d.webhook_id = h.id AND d.status = 'pending' AND d.due_at <= p_now)
            ORDER BY h.id FOR UPDATE SKIP LOCKED))
        RETURNING w.project_id, w.id
    )
    INSERT INTO memory_jobs (project_id, user_id, job_type, payload, priority, run_at, fair_at, created_at)
    SELECT d.project_id, '', 'deliver_webhook', jsonb_build_object('webhook_id', d.id), 10, p_now, p_now,
           p_now
    FROM due AS d;
    GET DIAGNOSTICS v_enqueued = ROW_COUNT;
    RETURN QUERY SELECT true, v_enqueued;
END $body$;

-- Write down how attempts ended, and what they say of the webhook. Arrays of one length describe pending
-- deliveries of one webhook: p_due_at is when to try again, NULL for never (delivered, or failed for
-- good). p_disabled_reason: no further attempts. Nothing is changed of deliveries that are gone.
CREATE OR REPLACE FUNCTION settle_memory_deliveries(
    p_webhook_id uuid, p_ids bigint[], p_delivered boolean[], p_due_at timestamptz[],
    p_response_status integer[], p_errors text[], p_now timestamptz,
    p_failures integer, p_failing_since timestamptz, p_circuit_until timestamptz, p_disabled_reason text
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $body$
BEGIN
    UPDATE memory_webhook_deliveries AS d
    SET status = CASE WHEN i.delivered THEN 'delivered'
                      WHEN i.due_at IS NULL THEN 'failed' ELSE 'pending' END,
        attempts = d.attempts + 1, due_at = coalesce(i.due_at, d.due_at), attempted_at = p_now,
        response_status = i.response_status, error = i.error,
        delivered_at = CASE WHEN i.delivered THEN p_now END
    FROM unnest(p_ids, p_delivered, p_due_at, p_response_status, p_errors)
         AS i (id, delivered, due_at, response_status, error)
    WHERE d.id = i.id AND d.webhook_id = p_webhook_id AND d.status = 'pending';
    UPDATE memory_webhooks
    SET failures = p_failures, failing_since = p_failing_since, circuit_until = p_circuit_until,
        last_success_at = CASE WHEN true = ANY (p_delivered) THEN p_now ELSE last_success_at END,
        disabled_at = CASE WHEN p_disabled_reason IS NULL THEN disabled_at
                           ELSE coalesce(disabled_at, p_now) END,
        disabled_reason = coalesce(disabled_reason, p_disabled_reason)
    WHERE id = p_webhook_id;
END $body$;

-- Give committed events without one their place in the stream, in batches, one caller at a time. A
-- reader that has seen a place has seen all before it.
CREATE OR REPLACE FUNCTION place_memory_events(p_limit integer)
RETURNS integer LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
BEGIN
    IF NOT EXISTS (SELECT FROM memory_events WHERE position IS NULL) THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('place_memory_events'));
    v_ids := ARRAY(SELECT id FROM memory_events WHERE position IS NULL ORDER BY id LIMIT p_limit
                   FOR UPDATE SKIP LOCKED);
    UPDATE memory_events AS e SET position = i.position
    FROM (SELECT u.id, nextval('memory_event_positions') AS position
          FROM (SELECT x.id FROM unnest(v_ids) AS x (id) ORDER BY x.id) AS u) AS i
    WHERE e.id = i.id;
    RETURN cardinality(v_ids);
END $body$;

-- Record the events of a project for readers of its stream from now on, or keep doing so. Returns up to
-- which position events may be missing.
CREATE OR REPLACE FUNCTION subscribe_memory_events(p_project_id text, p_now timestamptz)
RETURNS bigint LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_gone_until bigint;
BEGIN
    -- Almost always there: readers ask again and again.
    SELECT gone_until INTO v_gone_until FROM memory_event_streams
    WHERE project_id = p_project_id AND read_at > p_now - interval '1 hour';
    IF FOUND THEN
        RETURN v_gone_until;
    END IF;
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END INTO v_gone_until FROM memory_event_positions;
    INSERT INTO memory_event_streams AS s (project_id, read_at, gone_until)
    VALUES (p_project_id, p_now, v_gone_until)
    ON CONFLICT (project_id) DO UPDATE SET read_at = excluded.read_at
    RETURNING gone_until INTO v_gone_until;
    RETURN v_gone_until;
END $body$;

-- Delete events of before p_before with their deliveries, oldest first, at most p_limit; those that
-- still have a pending delivery stay. Returns how many.
CREATE OR REPLACE FUNCTION prune_memory_events(p_before timestamptz, p_limit integer DEFAULT 1000)
RETURNS integer LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
BEGIN
    -- A bounded look at the oldest ones, which are the first by id.
    v_ids := ARRAY(SELECT o.id
        FROM (SELECT id, created_at FROM memory_events ORDER BY id LIMIT p_limit) AS o
        WHERE o.created_at < p_before
          AND NOT EXISTS (SELECT FROM memory_webhook_deliveries AS d
                          JOIN memory_webhooks AS w ON w.id = d.webhook_id AND w.disabled_at IS NULL
                          WHERE d.event_id = o.id AND d.status = 'pending'));
    -- In the order of an erasure.
    WITH gone AS (
        DELETE FROM memory_events WHERE id = ANY (v_ids) RETURNING project_id, position
    )
    UPDATE memory_event_streams AS s SET gone_until = g.position
    FROM (SELECT project_id, max(position) AS position FROM gone GROUP BY project_id) AS g
    WHERE s.project_id = g.project_id AND g.position > s.gone_until;
    DELETE FROM memory_webhook_deliveries WHERE event_id = ANY (v_ids);
    DELETE FROM memory_event_streams WHERE read_at < p_before;
    RETURN cardinality(v_ids);
END $body$;
