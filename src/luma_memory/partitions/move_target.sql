-- name: versions
-- The migrations of a schema, in whose place the mark stands.
SELECT array_agg(version ORDER BY version) FROM /*schema*/.memory_migrations
