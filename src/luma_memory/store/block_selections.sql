-- Blocks of a project by any of their properties. Items, the blocks with a key, are left out.

-- name: page_of_user
-- Newest first, by the primary key. The inner limit bounds what a filter that matches little reads; the last block
-- that was examined is returned whether or not it fits.
SELECT /*block_columns*/, b.n, b.fits
FROM (
    SELECT b.*, (b.key IS NULL /*conditions*/) AS fits
    FROM (
        SELECT m.*, row_number() OVER (ORDER BY m.id DESC) AS n FROM memory_blocks AS m
        WHERE m.project_id = $1 AND m.user_id = $2 AND ($3::uuid IS NULL OR m.id < $3)
        ORDER BY m.id DESC LIMIT $4
    ) AS b
) AS b
WHERE b.fits OR b.n = $4
ORDER BY b.id DESC
LIMIT $5

-- name: page_of_project
-- As `page_of_user` over all users, by the index on the id alone.
SELECT /*block_columns*/, b.n, b.fits
FROM (
    SELECT b.*, (b.key IS NULL /*conditions*/) AS fits
    FROM (
        SELECT m.*, uuid_send(m.id) AS place, row_number() OVER (ORDER BY uuid_send(m.id) DESC) AS n
        FROM memory_blocks AS m
        WHERE m.project_id = $1 AND ($2::uuid IS NULL OR uuid_send(m.id) < uuid_send($2))
        ORDER BY place DESC LIMIT $3
    ) AS b
) AS b
WHERE b.fits OR b.n = $3
ORDER BY b.place DESC
LIMIT $4

-- name: select_blocks
-- The first blocks of a selection, each row with the number of all of them, the newest id, and a sum that
-- changes with every block that is added, edited or deleted. $1 the newest id, NULL for any; $2 how many rows.
SELECT c.project_id, c.user_id, c.id, c.fingerprint, c.blocks, c.newest, c.fingerprints
FROM (
    SELECT b.project_id, b.user_id, b.id, count(*) OVER () AS blocks,
           max(b.id::text) OVER () AS newest,
           hashtextextended(b.id::text, b.revision) AS fingerprint,
           (sum(hashtextextended(b.id::text, b.revision)) OVER ())::text AS fingerprints
    FROM memory_blocks AS b
    WHERE b.key IS NULL AND ($1::uuid IS NULL OR b.id <= $1) /*conditions*/
) AS c
ORDER BY c.project_id, c.user_id, c.id
LIMIT $2

-- name: delete_selected
-- Delete blocks of one scope and everything that refers to them.
SELECT delete_memory_blocks($1, $2, $3) AS deleted
