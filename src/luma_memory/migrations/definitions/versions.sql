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

-- Raise the version of scopes after a change at p_now, and log which of their blocks changed. Arrays of
-- one length name a changed block each; an entry without a block raises the version alone. A user
-- without a row gets one. Rows are locked in order, so that two statements cannot deadlock.
CREATE OR REPLACE FUNCTION raise_memory_versions(
    p_project_ids text[], p_user_ids text[], p_block_ids uuid[], p_now timestamptz
) RETURNS void LANGUAGE sql AS $body$
    WITH scope AS (
        SELECT i.project_id, i.user_id,
               coalesce(array_agg(i.block_id) FILTER (WHERE i.block_id IS NOT NULL), '{}') AS block_ids
        FROM unnest(p_project_ids, p_user_ids, p_block_ids) AS i (project_id, user_id, block_id)
        GROUP BY i.project_id, i.user_id ORDER BY i.project_id, i.user_id
    ), raised AS (
        INSERT INTO memory_users AS u (project_id, user_id, version)
        SELECT s.project_id, s.user_id, memory_next_version(0, p_now) FROM scope AS s
        ORDER BY s.project_id, s.user_id
        ON CONFLICT (project_id, user_id) DO UPDATE
        SET version = memory_next_version(u.version, p_now), previous = u.version
        RETURNING u.project_id, u.user_id, u.version, u.previous
    )
    INSERT INTO memory_changes (project_id, user_id, version, previous, block_ids, has_items)
    SELECT r.project_id, r.user_id, r.version, r.previous, s.block_ids, true
    FROM raised AS r JOIN scope AS s USING (project_id, user_id)
$body$;

-- The same for one scope whose row the caller holds; nothing without a row. NULL for the blocks:
-- all of them may have changed.
CREATE OR REPLACE FUNCTION raise_memory_version(
    p_project_id text, p_user_id text, p_block_ids uuid[], p_now timestamptz
) RETURNS void LANGUAGE sql AS $body$
    WITH raised AS (
        UPDATE memory_users SET version = memory_next_version(version, p_now), previous = version
        WHERE project_id = p_project_id AND user_id = p_user_id
        RETURNING project_id, user_id, version, previous
    )
    INSERT INTO memory_changes (project_id, user_id, version, previous, block_ids, has_items)
    SELECT project_id, user_id, version, previous, p_block_ids, true FROM raised
$body$;
