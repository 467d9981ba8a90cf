-- The key by which recall compares speakers' names: the whole name's hash in the upper half, its first word's in
-- the lower one, ignoring case. A question that names a person uses either.
CREATE OR REPLACE FUNCTION memory_speaker_key(p_speaker text)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT (hashtext(lower(p_speaker))::bigint << 32)
         | (hashtext(split_part(lower(p_speaker), ' ', 1))::bigint & 4294967295)
$body$;

-- Store the vectors of windows of turns, each with the block it ends with, and drop those that are
-- outdated. A block that is gone by now gets none. p_turns: all blocks that
-- were read; passages stored before speaker keys existed get theirs.
CREATE OR REPLACE FUNCTION store_memory_windows(
    p_project_id text, p_user_id text, p_blocks uuid[], p_fingerprints integer[],
    p_embeddings halfvec[], p_model text, p_dropped uuid[], p_turns uuid[]
) RETURNS void LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_named uuid[];  -- turns whose speaker's key is still missing
    v_changed uuid[];
BEGIN
    v_named := ARRAY(SELECT DISTINCT m.block_id
        FROM memory_passages AS m
        JOIN memory_blocks AS b ON b.project_id = m.project_id AND b.user_id = m.user_id
            AND b.id = m.block_id
        WHERE m.project_id = p_project_id AND m.user_id = p_user_id AND m.block_id = ANY (p_turns)
          AND m.speaker_key IS NULL AND m.ordinal >= 0 AND b.speaker IS NOT NULL);
    v_changed := p_blocks || p_dropped || v_named;
    IF cardinality(v_changed) > 0 THEN
        PERFORM raise_memory_versions(array_fill(p_project_id, ARRAY[cardinality(v_changed)]),
            array_fill(p_user_id, ARRAY[cardinality(v_changed)]), v_changed, v_now);
    END IF;

    DELETE FROM memory_passages
    WHERE project_id = p_project_id AND user_id = p_user_id AND ordinal = -1
      AND block_id = ANY (p_dropped);

    INSERT INTO memory_passages AS m (project_id, user_id, block_id, ordinal, start_at, stop_at,
        session_id, occurred_at, expires_at, lexemes, embedding, embedding_model)
    SELECT b.project_id, b.user_id, b.id, -1, 0, w.fingerprint, b.session_id,
           coalesce(b.occurred_at, b.created_at), b.expires_at, '{}/1000000000', w.embedding, p_model
    FROM unnest(p_blocks, p_fingerprints, p_embeddings) AS w (id, fingerprint, embedding)
    JOIN (SELECT * FROM memory_blocks
          WHERE project_id = p_project_id AND user_id = p_user_id AND id = ANY (p_blocks)
          ORDER BY id FOR KEY SHARE) AS b USING (id)
    ON CONFLICT (project_id, user_id, block_id, ordinal) DO UPDATE
    SET stop_at = excluded.stop_at, embedding = excluded.embedding,
        embedding_model = excluded.embedding_model, session_id = excluded.session_id,
        occurred_at = excluded.occurred_at, expires_at = excluded.expires_at;

    UPDATE memory_passages AS m SET speaker_key = memory_speaker_key(b.speaker)
    FROM memory_blocks AS b
    WHERE m.project_id = p_project_id AND m.user_id = p_user_id AND m.block_id = ANY (v_named)
      AND m.speaker_key IS NULL AND m.ordinal >= 0
      AND b.project_id = p_project_id AND b.user_id = p_user_id AND b.id = m.block_id
      AND b.speaker IS NOT NULL;
END $body$;

-- Drop the vectors that depend on a block's text besides its own: the windows of the two turns
-- after it, and its own. A job embeds them again. Called while the block still exists, under
-- the lock of its user's row.
CREATE OR REPLACE FUNCTION forget_memory_windows(p_project_id text, p_user_id text, p_block_id uuid)
RETURNS void LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    v_session text;
    v_at timestamptz;
    v_dropped uuid[];
BEGIN
    SELECT session_id, coalesce(occurred_at, created_at) INTO v_session, v_at FROM memory_blocks
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id;
    IF v_session IS NULL THEN
        RETURN;
    END IF;
    WITH dropped AS (
        DELETE FROM memory_passages
        WHERE project_id = p_project_id AND user_id = p_user_id AND ordinal = -1
          AND block_id = ANY (ARRAY(
              SELECT b.id FROM memory_blocks AS b
              WHERE b.project_id = p_project_id AND b.user_id = p_user_id AND b.session_id = v_session
                AND (coalesce(b.occurred_at, b.created_at), b.id) >= (v_at, p_block_id)
              ORDER BY coalesce(b.occurred_at, b.created_at), b.id LIMIT 3))
        RETURNING block_id
    )
    SELECT array_agg(block_id) INTO v_dropped FROM dropped;
    IF v_dropped IS NOT NULL THEN
        PERFORM raise_memory_version(p_project_id, p_user_id, v_dropped, clock_timestamp());
        PERFORM enqueue_memory_jobs(ARRAY[p_project_id], ARRAY[p_user_id], ARRAY['reembed'],
            NULL, ARRAY[jsonb_build_object('session_id', v_session,
                'from', jsonb_build_array(v_at, p_block_id))],
            ARRAY[-10], ARRAY[clock_timestamp() + interval '2 s'], NULL);
    END IF;
END $body$;
