-- The version of a scope after a change at p_now: the value that cached results are checked against.
--
-- It follows the clock (microseconds), and not only a counter, so that a number never occurs twice with
-- other contents: not after a user was erased and created again, not after a crash undid the last
-- transaction, not after the database was restored from a backup. An operator who changes blocks by hand
-- raises it too: UPDATE memory_users SET version = memory_next_version(version, now()) WHERE ...
-- Such a change has no entry in memory_changes, so every snapshot of the scope is loaded again.
CREATE OR REPLACE FUNCTION memory_next_version(p_version bigint, p_now timestamptz)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    -- At a fixed offset: parts of a timestamptz depend on the session's time zone, and distributed tables
    -- accept only immutable functions in ON CONFLICT.
    SELECT greatest(p_version + 1, (extract(epoch FROM p_now AT TIME ZONE 'UTC') * 1000000)::bigint)
$body$;

-- An instant and what follows it by p_step, as an immutable function: `timestamptz + interval` depends on the session's time
-- zone where the interval has days, and distributed tables accept only immutable functions in ON CONFLICT. Here a day has
-- 24 hours. The planner puts the expression in place of the call.
CREATE OR REPLACE FUNCTION memory_later(p_at timestamptz, p_step interval)
RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT (p_at AT TIME ZONE 'UTC' + p_step) AT TIME ZONE 'UTC'
$body$;

-- Raise the version of scopes after a change at p_now, and log which of their blocks changed. Arrays of
-- one length name a changed block each; an entry without a block raises the version alone. A user
-- without a row gets one. Rows are locked in order, so that two statements cannot deadlock.
--
-- Two statements, here and elsewhere, and no INSERT that reads what another one returned: Citus would send these rows to
-- all of its nodes, and the change would depend on each of them.
CREATE OR REPLACE FUNCTION raise_memory_versions(
    p_project_ids text[], p_user_ids text[], p_block_ids uuid[], p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    v_raised record;
BEGIN
    WITH raised AS (
        INSERT INTO memory_users AS u (project_id, user_id, version)
        SELECT s.project_id, s.user_id, memory_next_version(0, p_now)
        FROM (SELECT DISTINCT i.project_id, i.user_id FROM unnest(p_project_ids, p_user_ids) AS i (project_id, user_id)) AS s
        ORDER BY s.project_id, s.user_id
        ON CONFLICT (project_id, user_id) DO UPDATE
        SET version = memory_next_version(u.version, p_now), previous = u.version
        RETURNING u.project_id, u.user_id, u.version, u.previous
    )
    SELECT array_agg(r.project_id) AS projects, array_agg(r.user_id) AS users,
           array_agg(r.version) AS versions, array_agg(r.previous) AS previous
    INTO v_raised FROM raised AS r;
    INSERT INTO memory_changes (project_id, user_id, version, previous, block_ids, has_items)
    SELECT r.project_id, r.user_id, r.version, r.previous,
           coalesce(array_agg(i.block_id) FILTER (WHERE i.block_id IS NOT NULL), '{}'), true
    FROM unnest(v_raised.projects, v_raised.users, v_raised.versions, v_raised.previous)
         AS r (project_id, user_id, version, previous)
    JOIN unnest(p_project_ids, p_user_ids, p_block_ids) AS i (project_id, user_id, block_id)
      ON i.project_id = r.project_id AND i.user_id = r.user_id
    GROUP BY r.project_id, r.user_id, r.version, r.previous;
END $body$;

-- The same for one scope whose row the caller holds; nothing without a row. NULL for the blocks:
-- all of them may have changed.
CREATE OR REPLACE FUNCTION raise_memory_version(
    p_project_id text, p_user_id text, p_block_ids uuid[], p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    v_version bigint;
    v_previous bigint;
BEGIN
    UPDATE memory_users SET version = memory_next_version(version, p_now), previous = version
    WHERE project_id = p_project_id AND user_id = p_user_id
    RETURNING version, previous INTO v_version, v_previous;
    IF FOUND THEN
        INSERT INTO memory_changes (project_id, user_id, version, previous, block_ids, has_items)
        VALUES (p_project_id, p_user_id, v_version, v_previous, p_block_ids, true);
    END IF;
END $body$;
