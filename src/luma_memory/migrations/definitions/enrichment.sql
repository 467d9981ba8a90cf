-- Write back a worker's results for its blocks: facts, passages and completed jobs in one
-- statement. Only jobs that are still the caller's own attempt, and blocks that were not edited
-- since, change. Returns the 1-based positions of the jobs that were completed.
--
-- Arrays of one length describe the jobs; p_passage_* describe all passages of those blocks,
-- p_passage_item being the 1-based position of the job. A NULL title means: enrichment is switched
-- off or was kept before, keep what is there. A NULL embedding means the same for vectors.
-- p_kept: the passages of the job's block are stored as they are, in the words of the default language,
-- and have NULL lexemes here; if another job has set the block's language since, its result is kept.
-- p_tags_and_entities has optional fields: what produced the facts (`model`), why something is
-- missing (`error`), which steps are to be backfilled (`backfill_steps`) and after how long
-- (`backfill_after`: an interval, or 'asked' for on request only); with `relations`, a number of
-- attempts, a job detects relations of each block that becomes active.
CREATE OR REPLACE FUNCTION complete_memory_enrichments(
    p_worker text, p_job_ids bigint[], p_attempts integer[], p_revisions integer[],
    p_titles text[], p_summaries text[], p_tags_and_entities jsonb[],
    p_importances real[], p_languages text[], p_enrichments text[],
    p_passage_item integer[], p_passage_ordinal integer[], p_passage_start integer[],
    p_passage_stop integer[], p_passage_lexemes sparsevec[], p_passage_embeddings halfvec[],
    p_embedding_model text, p_kept boolean[]
) RETURNS SETOF bigint LANGUAGE plpgsql SET lock_timeout = '250ms'
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $body$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_done bigint[];
    v_projects text[];
    v_users text[];
    v_blocks uuid[];
    v_items integer[];
    v_fresh record;
    v_enriched record;
BEGIN
    v_done := ARRAY(SELECT complete_memory_jobs(p_job_ids, p_attempts, p_worker));
    IF cardinality(v_done) = 0 THEN
        RETURN;
    END IF;

    SELECT array_agg(j.project_id), array_agg(j.user_id), array_agg(j.block_id), array_agg(i.n)
    INTO v_projects, v_users, v_blocks, v_items
    FROM unnest(p_job_ids) WITH ORDINALITY AS i (job_id, n)
    -- A worker whose lease ran out may write back two attempts of one job: only the later one is valid.
    JOIN memory_jobs AS j ON j.id = i.job_id AND j.attempts = p_attempts[i.n]
    WHERE j.id = ANY (v_done);

    PERFORM raise_memory_versions(v_projects, v_users, v_blocks, v_now);

    -- Keep a revision of an earlier enrichment, or of values that an existing table or
    -- a client's SQL had in these columns; a first enrichment usually has nothing to keep.
    INSERT INTO memory_block_revisions (project_id, user_id, block_id, revision, reason, changed_by, before)
    SELECT b.project_id, b.user_id, b.id, b.revision, 'enrichment', 'job ' || p_job_ids[d.n],
           jsonb_build_object('title', b.title, 'summary', b.summary, 'tags', b.tags,
               'entities', b.entities, 'importance', b.importance, 'language', b.language,
               'enrichment', b.enrichment)
    FROM unnest(v_projects, v_users, v_blocks, v_items) AS d (project_id, user_id, block_id, n)
    JOIN memory_blocks AS b ON b.project_id = d.project_id AND b.user_id = d.user_id AND b.id = d.block_id
    WHERE (b.enrichment <> 'none' OR b.title IS NOT NULL OR b.summary IS NOT NULL OR b.tags <> '{}'
           OR b.entities <> '[]' OR b.importance IS NOT NULL)
      AND b.revision = p_revisions[d.n] AND p_titles[d.n] IS NOT NULL
      AND (b.language IS NULL OR p_kept[d.n] IS NOT TRUE);

    -- Blocks that become active with this, without items: the summaries of their weeks are written again.
    SELECT array_agg(b.project_id) AS projects, array_agg(b.user_id) AS users,
           array_agg(b.id) AS ids,
           array_agg('detect_relations:' || b.id || ':' || b.revision) AS keys,
           max((p_tags_and_entities[d.n] ->> 'relations')::integer) AS attempts
    INTO v_fresh
    FROM unnest(v_projects, v_users, v_blocks, v_items) AS d (project_id, user_id, block_id, n)
    JOIN memory_blocks AS b ON b.project_id = d.project_id AND b.user_id = d.user_id AND b.id = d.block_id
    WHERE b.status <> 'active' AND b.key IS NULL AND b.revision = p_revisions[d.n]
      AND (b.language IS NULL OR p_kept[d.n] IS NOT TRUE);
    UPDATE memory_summaries AS s SET stale = true, updated_at = v_now
    FROM unnest(v_fresh.projects, v_fresh.users, v_fresh.ids) AS i (project_id, user_id, id)
    JOIN memory_blocks AS b ON b.project_id = i.project_id AND b.user_id = i.user_id AND b.id = i.id
    WHERE s.project_id = b.project_id AND s.user_id = b.user_id AND NOT s.stale
      AND coalesce(b.occurred_at, b.created_at) >= s.starts_at
      AND coalesce(b.occurred_at, b.created_at) < s.ends_at;

    -- Passages only if the block is unchanged since it was read.
    WITH block AS (
        UPDATE memory_blocks AS b
        SET title = coalesce(d.title, b.title), summary = coalesce(d.summary, b.summary),
            enrichment_model = coalesce(d.facts ->> 'model', b.enrichment_model),
            enriched_revision = CASE WHEN d.title IS NULL THEN b.enriched_revision ELSE d.revision END,
            backfill_steps = CASE WHEN d.facts ? 'backfill_steps' THEN
                ARRAY(SELECT jsonb_array_elements_text(d.facts -> 'backfill_steps')) END,
            backfill_at = d.backfill_at,
            tags = CASE WHEN d.title IS NULL THEN b.tags
                        ELSE ARRAY(SELECT jsonb_array_elements_text(d.facts -> 'tags')) END,
            entities = coalesce(d.facts -> 'entities', b.entities),
            importance = coalesce(d.importance, b.importance),
            language = coalesce(d.language, b.language),
            enrichment = coalesce(d.enrichment, b.enrichment),
            status = 'active', error = d.facts ->> 'error', updated_at = v_now
        FROM (SELECT i.*, p_revisions[i.n] AS revision, p_titles[i.n] AS title, p_summaries[i.n] AS summary,
                     p_tags_and_entities[i.n] AS facts, p_importances[i.n] AS importance,
                     p_languages[i.n] AS language, p_enrichments[i.n] AS enrichment, p_kept[i.n] AS kept,
                     CASE WHEN p_tags_and_entities[i.n] ->> 'backfill_after' = 'asked' THEN 'infinity'
                          ELSE v_now + (p_tags_and_entities[i.n] ->> 'backfill_after')::interval END AS backfill_at
              FROM unnest(v_projects, v_users, v_blocks, v_items)
                   AS i (project_id, user_id, block_id, n)) AS d
        WHERE b.project_id = d.project_id AND b.user_id = d.user_id AND b.id = d.block_id
          AND b.revision = d.revision
          AND (b.language IS NULL OR d.kept IS NOT TRUE)
        RETURNING b.project_id, b.user_id, b.id, b.session_id, b.speaker, b.expires_at,
                  coalesce(b.occurred_at, b.created_at) AS occurred_at, b.key IS NOT NULL AS item, d.n
    )
    SELECT array_agg(b.n) AS items, array_agg(b.project_id) AS projects, array_agg(b.user_id) AS users,
           array_agg(b.id) AS ids, array_agg(b.session_id) AS sessions, array_agg(b.speaker) AS speakers,
           array_agg(b.expires_at) AS expire_at, array_agg(b.occurred_at) AS occurred_at,
           array_agg(b.item) AS are_items
    INTO v_enriched FROM block AS b;
    WITH stale AS (
        -- If there are fewer passages than before, the extra ones of the longer text are deleted.
        DELETE FROM memory_passages AS m
        USING unnest(v_enriched.items, v_enriched.projects, v_enriched.users, v_enriched.ids)
              AS b (n, project_id, user_id, id)
        JOIN (SELECT p.n, max(p.ordinal) AS last
              FROM unnest(p_passage_item, p_passage_ordinal) AS p (n, ordinal)
              GROUP BY p.n) AS k USING (n)
        WHERE m.project_id = b.project_id AND m.user_id = b.user_id AND m.block_id = b.id
          AND m.ordinal > k.last
    ), embedded AS (
        UPDATE memory_passages AS m SET embedding = p.embedding, embedding_model = p_embedding_model
        FROM unnest(v_enriched.items, v_enriched.projects, v_enriched.users, v_enriched.ids)
             AS b (n, project_id, user_id, id)
        JOIN unnest(p_passage_item, p_passage_ordinal, p_passage_lexemes, p_passage_embeddings)
             AS p (n, ordinal, lexemes, embedding) USING (n)
        WHERE m.project_id = b.project_id AND m.user_id = b.user_id AND m.block_id = b.id
          AND m.ordinal = p.ordinal AND p.lexemes IS NULL AND p.embedding IS NOT NULL
    )
    INSERT INTO memory_passages AS m (project_id, user_id, block_id, ordinal, start_at, stop_at,
        session_id, occurred_at, expires_at, speaker_key, lexemes, embedding, embedding_model, item)
    SELECT b.project_id, b.user_id, b.id, p.ordinal, p.start_at, p.stop_at, b.session_id, b.occurred_at, b.expires_at,
           memory_speaker_key(b.speaker), p.lexemes, p.embedding,
           CASE WHEN p.embedding IS NOT NULL THEN p_embedding_model END, b.item
    FROM unnest(p_passage_item, p_passage_ordinal, p_passage_start, p_passage_stop,
                p_passage_lexemes, p_passage_embeddings)
         AS p (n, ordinal, start_at, stop_at, lexemes, embedding)
    JOIN unnest(v_enriched.items, v_enriched.projects, v_enriched.users, v_enriched.ids, v_enriched.sessions,
                v_enriched.speakers, v_enriched.occurred_at, v_enriched.expire_at, v_enriched.are_items)
         AS b (n, project_id, user_id, id, session_id, speaker, occurred_at, expires_at, item) USING (n)
    WHERE p.lexemes IS NOT NULL
    ON CONFLICT (project_id, user_id, block_id, ordinal) DO UPDATE
    SET start_at = excluded.start_at, stop_at = excluded.stop_at, lexemes = excluded.lexemes,
        speaker_key = excluded.speaker_key,
        embedding = coalesce(excluded.embedding, m.embedding),
        embedding_model = coalesce(excluded.embedding_model, m.embedding_model);

    IF v_fresh.ids IS NOT NULL THEN
        PERFORM record_memory_events('block.active', v_fresh.projects, v_fresh.users, v_fresh.ids,
            NULL);
    END IF;
    IF v_fresh.attempts IS NOT NULL THEN
        -- After the fresh blocks of all users, and without delaying the user's own.
        PERFORM enqueue_memory_jobs(v_fresh.projects, v_fresh.users,
            array_fill('detect_relations'::text, ARRAY[cardinality(v_fresh.ids)]), v_fresh.ids,
            array_fill(NULL::jsonb, ARRAY[cardinality(v_fresh.ids)]),
            array_fill(-5, ARRAY[cardinality(v_fresh.ids)]),
            array_fill(NULL::timestamptz, ARRAY[cardinality(v_fresh.ids)]), v_fresh.keys,
            v_fresh.attempts, '0 ms');
    END IF;
    RETURN QUERY SELECT unnest(v_items)::bigint;
END $body$;

-- As versions before 0012 call it: nothing is kept. Not a default of the other function: if an older
-- version's migration restored its own function, a call with 17 arguments would match both.
CREATE OR REPLACE FUNCTION complete_memory_enrichments(
    p_worker text, p_job_ids bigint[], p_attempts integer[], p_revisions integer[],
    p_titles text[], p_summaries text[], p_tags_and_entities jsonb[],
    p_importances real[], p_languages text[], p_enrichments text[],
    p_passage_item integer[], p_passage_ordinal integer[], p_passage_start integer[],
    p_passage_stop integer[], p_passage_lexemes sparsevec[], p_passage_embeddings halfvec[],
    p_embedding_model text
) RETURNS SETOF bigint LANGUAGE sql AS $body$
    SELECT complete_memory_enrichments(p_worker, p_job_ids, p_attempts, p_revisions, p_titles, p_summaries,
        p_tags_and_entities, p_importances, p_languages, p_enrichments, p_passage_item,
        p_passage_ordinal, p_passage_start, p_passage_stop, p_passage_lexemes, p_passage_embeddings,
        p_embedding_model, NULL)
$body$;

-- Store vectors of some passages of a block that still has p_revision, before the others are computed; returns their
-- ordinals. The user's row is locked before the block's, as everywhere.
CREATE OR REPLACE FUNCTION store_memory_vectors(
    p_project_id text, p_user_id text, p_block_id uuid, p_revision integer, p_model text,
    p_ordinals integer[], p_embeddings halfvec[]
) RETURNS SETOF integer LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM raise_memory_version(p_project_id, p_user_id, ARRAY[p_block_id], clock_timestamp());
    PERFORM FROM memory_blocks
    WHERE project_id = p_project_id AND user_id = p_user_id AND id = p_block_id AND revision = p_revision
    FOR SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY
    UPDATE memory_passages AS m SET embedding = p.embedding, embedding_model = p_model
    FROM unnest(p_ordinals, p_embeddings) AS p (ordinal, embedding)
    WHERE m.project_id = p_project_id AND m.user_id = p_user_id AND m.block_id = p_block_id
      AND m.ordinal = p.ordinal
    RETURNING m.ordinal;
END $body$;
