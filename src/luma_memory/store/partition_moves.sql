-- name: read_move
-- The unfinished move of a partition.
SELECT number, move_id, schema_name AS schema, dsn, old_schema, phase, rows, bytes, rounds
FROM memory_partition_moves WHERE number = $1

-- name: list_moves
-- All unfinished moves.
SELECT number, move_id, schema_name AS schema, dsn, old_schema, phase, rows, bytes, rounds
FROM memory_partition_moves ORDER BY number

-- name: begin_move
-- Write down that a partition is being moved.
INSERT INTO memory_partition_moves (number, move_id, schema_name, dsn, old_schema, phase)
VALUES ($1, gen_random_uuid(), $2, $3, $4, 'copying')

-- name: note_move
-- How far a move is.
UPDATE memory_partition_moves SET phase = $2, rows = $3, bytes = $4, rounds = $5
WHERE number = $1

-- name: end_move
-- Moved, or undone.
DELETE FROM memory_partition_moves WHERE number = $1

-- name: switch_place
-- The partition is at its new place and serves.
UPDATE memory_partitions SET dsn = $2, schema_name = $3, state = 'serving' WHERE number = $1

-- name: announce_move
-- Processes read the directory again.
SELECT pg_notify('memory_partitions', '')
