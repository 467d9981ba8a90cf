-- Lists of blocks by filter, and their deletion. Items, the blocks with a key, are left out.

-- name: find_blocks
-- Blocks by id alone, within a project, or within one user of it: as memory_blocks_id has them.
SELECT /*block_columns*/
FROM memory_blocks AS b
WHERE uuid_send(b.id) = ANY (ARRAY(SELECT uuid_send(k.id) FROM unnest($2::uuid[]) AS k (id)))
  AND b.project_id = $1 AND ($3::text IS NULL OR b.user_id = $3) AND b.key IS NULL

-- name: page_chosen
-- Newest first: ids are UUIDv7. The mark is one condition a scope, each with its project_id and user_id.
SELECT /*block_columns*/
FROM memory_blocks AS b
WHERE (/*conditions*/)
  AND ($1::boolean OR b.expires_at IS NULL OR b.expires_at > now())
  AND ($2::boolean OR b.superseded_at IS NULL)
  AND b.key IS NULL
ORDER BY b.id DESC
LIMIT $3 OFFSET $4

-- name: count_chosen
-- How many blocks `page_chosen` has in all.
SELECT count(*) AS blocks
FROM memory_blocks AS b
WHERE (/*conditions*/)
  AND ($1::boolean OR b.expires_at IS NULL OR b.expires_at > now())
  AND ($2::boolean OR b.superseded_at IS NULL)
  AND b.key IS NULL

-- name: ids_chosen
-- Some of what `page_chosen` lists, in one order, for a deletion in batches.
SELECT b.project_id, b.user_id, b.id
FROM memory_blocks AS b
WHERE (/*conditions*/)
  AND ($1::boolean OR b.expires_at IS NULL OR b.expires_at > now())
  AND ($2::boolean OR b.superseded_at IS NULL)
  AND b.key IS NULL
ORDER BY b.project_id, b.user_id, b.id
LIMIT $3

-- name: ids_of_group
-- Blocks of an agent, an application or a run, of every user of a project or of one: no index finds them.
SELECT b.project_id, b.user_id, b.id
FROM memory_blocks AS b
WHERE b.project_id = $1 AND ($4::text IS NULL OR b.user_id = $4) AND b.key IS NULL
  AND CASE $2 WHEN 'agent' THEN b.agent_id WHEN 'run' THEN b.session_id
              WHEN 'app' THEN b.metadata ->> 'app_id' END = $3
ORDER BY b.project_id, b.user_id, b.id
LIMIT $5

-- name: replaced_by
-- What a block superseded, and what that had superseded.
WITH RECURSIVE replaced (id) AS (
    SELECT b.id FROM memory_blocks AS b
    WHERE b.project_id = $1 AND b.user_id = $2 AND b.superseded_by = $3
    UNION
    SELECT b.id FROM replaced AS r JOIN memory_blocks AS b ON b.superseded_by = r.id
    WHERE b.project_id = $1 AND b.user_id = $2
)
SELECT id FROM replaced WHERE id <> $3

-- name: page_groups
-- Users, agents, applications and runs that have blocks: of every user of a project or of one.
SELECT g.kind, g.name, g.blocks, g.first_at, g.last_at, count(*) OVER () AS groups
FROM (
    SELECT e.kind, e.name, count(*) AS blocks, min(b.created_at) AS first_at, max(b.updated_at) AS last_at
    FROM memory_blocks AS b
    CROSS JOIN LATERAL (VALUES ('user', b.user_id), ('agent', b.agent_id),
        ('app', b.metadata ->> 'app_id'), ('run', b.session_id)) AS e (kind, name)
    WHERE b.project_id = $1 AND ($2::text IS NULL OR b.user_id = $2) AND e.name IS NOT NULL
      AND b.key IS NULL
      -- A scope without a user shows as the agent, the application or the run that it belongs to.
      AND NOT (e.kind = 'user' AND e.name ~ '^mem0:(agent|app|run):.')
    GROUP BY e.kind, e.name
) AS g
ORDER BY array_position(ARRAY['user', 'agent', 'app', 'run'], g.kind), g.name
LIMIT $3 OFFSET $4

-- name: delete_blocks
-- Delete blocks of one scope and everything that refers to them.
SELECT delete_memory_blocks($1, $2, $3) AS deleted
