-- Items: write, read, list.

-- name: item_columns
-- Of a stored item.
b.id, b.namespace, b.key, b.value, b.revision, b.position, b.created_at, b.updated_at, b.expires_at

-- name: write_items
-- Operations on items, in order; a row for each.
SELECT outcome, item_id, item_revision, created, updated, expires
FROM write_memory_items($1, $2, $3, $4, $5, $6, $7, $8)

-- name: read_item
-- As `read_items`, of one name: $3 is its digest. A list's length is unknown to the planner, which therefore plans
-- such a statement each time, for three times as long as reading one item takes.
SELECT b.name_id, b.ttl_seconds, b.refresh_on_read, /*item_columns*/
FROM memory_blocks AS b
WHERE hashtextextended(b.user_id, hashtextextended(b.project_id, 0))
      = hashtextextended($2, hashtextextended($1, 0))
  AND b.name_id = $3 AND b.key IS NOT NULL
  AND (b.project_id, b.user_id) IS NOT DISTINCT FROM ($1, $2)
  AND (b.expires_at IS NULL OR b.expires_at > clock_timestamp())

-- name: read_items
-- Items by the digests of their names, in any order. $1 project, $2 user, $3 the digests. The scope as the index
-- memory_blocks_item_name has it: without statistics, any index that begins with the scope would be chosen.
SELECT b.name_id, b.ttl_seconds, b.refresh_on_read, /*item_columns*/
FROM unnest($3::uuid[]) AS k (name_id)
CROSS JOIN LATERAL (SELECT * FROM memory_blocks AS m
    WHERE hashtextextended(m.user_id, hashtextextended(m.project_id, 0))
          = hashtextextended($2, hashtextextended($1, 0))
      AND m.name_id = k.name_id AND m.key IS NOT NULL
      AND (m.project_id, m.user_id) IS NOT DISTINCT FROM ($1, $2)
      AND (m.expires_at IS NULL OR m.expires_at > clock_timestamp()) OFFSET 0) AS b

-- name: read_items_by_id
-- Items by their blocks, in any order. $1 project, $2 user, $3 ids. That they are items is checked outside:
-- inside it would make indexes on items as cheap as the primary key, as long as there are no statistics.
SELECT b.name_id, b.ttl_seconds, b.refresh_on_read, /*item_columns*/
FROM unnest($3::uuid[]) AS k (id)
CROSS JOIN LATERAL (SELECT * FROM memory_blocks AS m
    WHERE m.project_id = $1 AND m.user_id = $2 AND m.id = k.id
      AND (m.expires_at IS NULL OR m.expires_at > clock_timestamp()) OFFSET 0) AS b
WHERE b.key IS NOT NULL

-- name: page_items
-- Items of a scope in their order. $1 project, $2 user, $3 limit, $4 offset; the marks become conditions whose
-- values follow, and the order.
SELECT b.name_id, b.ttl_seconds, b.refresh_on_read, /*item_columns*/
FROM memory_blocks AS b
WHERE b.project_id = $1 AND b.user_id = $2 AND b.key IS NOT NULL
  AND (b.expires_at IS NULL OR b.expires_at > clock_timestamp())
  /*selection*/
ORDER BY b.position /*direction*/
LIMIT $3 OFFSET $4

-- name: refresh_items
-- Begin the time to live of items anew; other blocks have none. $1 project, $2 user, $3 ids. Searches read the passages' times.
WITH refreshed AS (
    UPDATE memory_blocks AS b
    SET expires_at = t.now + b.ttl_seconds * interval '1 second'
    FROM (SELECT clock_timestamp() AS now OFFSET 0) AS t
    -- The index memory_blocks_id: without statistics PostgreSQL 16 reads all items of the user.
    WHERE uuid_send(b.id) = ANY (ARRAY(SELECT uuid_send(k.id) FROM unnest($3::uuid[]) AS k (id)))
      AND (b.project_id, b.user_id) IS NOT DISTINCT FROM ($1, $2)
      AND b.ttl_seconds IS NOT NULL AND b.expires_at > t.now
    RETURNING b.id, b.expires_at
), passages AS (
    UPDATE memory_passages AS p SET expires_at = r.expires_at
    FROM refreshed AS r
    WHERE p.project_id = $1 AND p.user_id = $2 AND p.block_id = r.id
)
SELECT id, expires_at FROM refreshed

-- name: list_namespaces
-- Namespaces in use, each once, cut to $3 labels. $1 project, $2 user, $4 first labels, $5 last labels (a `*`
-- is any label), $6 limit, $7 offset.
SELECT DISTINCT b.namespace[1:coalesce($3::integer, cardinality(b.namespace))] COLLATE "C" AS namespace
FROM memory_blocks AS b
WHERE b.project_id = $1 AND b.user_id = $2 AND b.key IS NOT NULL
  AND (b.expires_at IS NULL OR b.expires_at > clock_timestamp())
  AND cardinality(b.namespace) >= greatest(cardinality($4::text[]), cardinality($5::text[]))
  AND NOT EXISTS (SELECT FROM unnest($4::text[]) WITH ORDINALITY AS p (label, n)
      WHERE p.label <> '*' AND p.label <> b.namespace[p.n])
  AND NOT EXISTS (SELECT FROM unnest($5::text[]) WITH ORDINALITY AS s (label, n)
      WHERE s.label <> '*'
        AND s.label <> b.namespace[cardinality(b.namespace) - cardinality($5::text[]) + s.n])
ORDER BY 1
LIMIT $6 OFFSET $7
