-- name: lock_moves
-- One move at a time; held by the session. False if another session moves a partition, or undoes a move.
SELECT pg_try_advisory_lock(hashtextextended('memory_partition_moves', 0))

-- name: unlock_moves
-- A lock that was only taken to see whether it is held in this database.
SELECT pg_advisory_unlock(hashtextextended('memory_partition_moves', 0))

-- name: mark_database
-- Held by the session at the source, to recognize its database at the target.
SELECT pg_try_advisory_lock(hashtextextended('memory_partition_source', 0))

-- name: unmark_database
-- The opposite.
SELECT pg_advisory_unlock(hashtextextended('memory_partition_source', 0))

-- name: has_schema
-- Whether there is a schema of this name, quoted.
SELECT to_regnamespace($1) IS NOT NULL AS has_schema

-- name: has_objects
-- Whether the schema, quoted, has any table or function.
SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace($1))
    OR EXISTS (SELECT FROM pg_proc WHERE pronamespace = to_regnamespace($1))

-- name: has_session
-- Whether a session of this process id still ends what it began.
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)

-- name: end_session
-- End a session of the same role.
SELECT pg_terminate_backend($1)

-- name: has_extension
-- Whether pgvector is in the schema of this name.
SELECT EXISTS (SELECT FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
               WHERE e.extname = 'vector' AND n.nspname = $1)
