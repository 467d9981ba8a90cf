-- name: look_up
-- A scope's state, and what has changed since a copy of it was made, as of one moment.
--
-- $1 project, $2 user, $3 embedding model, $4 names whose keys are wanted, $5 the copy's version, $6 the most
-- blocks whose rows are returned, $7 blocks that count as changed whether or not they are logged; what a filter
-- needs follows. Entries of the log must chain from $5 to the current version: a gap, or
-- an entry that names no blocks, and `is_whole` is false and nothing may be concluded. One mark becomes the
-- packed columns of the changed blocks, the other whether these are items, the NULL the ids of the blocks that
-- match a filter: read in this statement, so that they are of the same moment. The log has blocks and items:
-- those that the copy has no rows of, and that have none now, take 16 bytes each. A third mark becomes the column,
-- or, for items, nothing where an earlier version's function logged no items.
WITH entry AS MATERIALIZED (
    SELECT c.version, c.previous, /*logged*/ AS block_ids FROM memory_changes AS c
    WHERE c.project_id = $1 AND c.user_id = $2 AND c.version > $5
), scope AS MATERIALIZED (
    SELECT coalesce((SELECT u.version FROM memory_users AS u
                     WHERE u.project_id = $1 AND u.user_id = $2), 0) AS version,
           (SELECT m.changed_at FROM memory_scope_models AS m
            WHERE m.project_id = $1 AND m.user_id = $2) AS moved_at
), chain AS MATERIALIZED (
    SELECT CASE WHEN s.version = $5 THEN true
                ELSE coalesce(bool_and(e.previous = e.expected AND e.block_ids IS NOT NULL), false)
                     AND max(e.version) = s.version END AS is_whole
    FROM scope AS s
    LEFT JOIN (SELECT version, previous, block_ids,
                      lag(version, 1, $5::bigint) OVER (ORDER BY version) AS expected
               FROM entry) AS e ON true
    GROUP BY s.version
), changed AS MATERIALIZED (
    SELECT array_agg(DISTINCT i.id) AS ids
    FROM (SELECT unnest(e.block_ids) FROM entry AS e UNION ALL SELECT unnest($7::uuid[])) AS i (id)
    WHERE (SELECT is_whole FROM chain)
), current AS MATERIALIZED (
    SELECT array_agg(i.id) AS ids
    FROM unnest((SELECT d.ids FROM changed AS d WHERE cardinality(d.ids) <= 16 * $6)) AS i (id)
    WHERE EXISTS (SELECT FROM memory_passages AS m
        WHERE m.project_id = $1 AND m.user_id = $2 AND m.block_id = i.id /*kind*/)
)
SELECT s.version, s.moved_at,
       timestamptz_send(now()) AS read_at,
       c.is_whole AND coalesce(cardinality(d.ids), 0) <= 16 * $6
           AND coalesce(cardinality(n.ids), 0) <= $6 AS is_whole,
       (SELECT string_agg(uuid_send(i.id), '') FROM unnest(d.ids) AS i (id)) AS changed_ids,
       (SELECT string_agg(int4send(hashtext(lower(n.name))), '' ORDER BY n.place)
        FROM unnest($4::text[]) WITH ORDINALITY AS n (name, place)) AS name_keys,
       NULL::bytea AS matching,
       r.*
FROM scope AS s CROSS JOIN chain AS c CROSS JOIN changed AS d CROSS JOIN current AS n
CROSS JOIN LATERAL (
    SELECT /*packed*/
    FROM (
        SELECT m.block_id, m.ordinal, m.session_id, m.occurred_at, m.speaker_key, m.expires_at,
               m.embedding, m.embedding_model, sparsevec_send(m.lexemes) AS lexemes
        FROM memory_passages AS m
        WHERE m.project_id = $1 AND m.user_id = $2
          AND m.block_id = ANY (CASE WHEN cardinality(n.ids) <= $6 THEN n.ids END)
          /*kind*/
        OFFSET 0
    ) AS p
) AS r

-- name: page_rows
-- Some rows of a scope, packed. $3 embedding model, ($4, $5) the last row of the page before, $6 how many; a mark becomes
-- whether they are of items.
SELECT /*packed*/
FROM (
    SELECT m.block_id, m.ordinal, m.session_id, m.occurred_at, m.speaker_key, m.expires_at,
           m.embedding, m.embedding_model, sparsevec_send(m.lexemes) AS lexemes
    FROM memory_passages AS m
    WHERE m.project_id = $1 AND m.user_id = $2
      AND (m.block_id, m.ordinal) > ($4::uuid, $5::integer)
      /*kind*/
    ORDER BY m.block_id, m.ordinal LIMIT $6
) AS p

-- name: erased_scopes
-- Positions of those scopes whose user row is gone, or is younger than the copy that was read at $3
-- (microseconds since 2000-01-01 UTC).
SELECT i.n
FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS i (project_id, user_id, read_at, n)
WHERE NOT EXISTS (SELECT FROM memory_users AS u
    WHERE u.project_id = i.project_id AND u.user_id = i.user_id
      AND u.created_at <= '2000-01-01 00:00:00Z'::timestamptz + i.read_at * interval '1 microsecond')
