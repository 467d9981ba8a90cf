-- name: other_processes
-- Connections of services that were started when there was one partition: later ones name their number.
SELECT application_name AS name FROM pg_stat_activity
WHERE datname = current_database() AND application_name IN ('luma-memory api', 'luma-memory worker')

-- name: change_state
-- No writer is in progress between the two states. The marks are the states and the home partition's schema.
SELECT pg_advisory_xact_lock(/*writers*/);
UPDATE /*home*/.memory_partitions SET state = '/*after*/' WHERE number > 0 AND state = '/*before*/';
SELECT pg_notify('memory_partitions', '')

-- name: return_begins
-- From now on the home partition may have all users; those who never left it are no longer listed.
SELECT pg_advisory_xact_lock(/*writers*/);
ALTER TABLE /*home*/.memory_users DROP CONSTRAINT IF EXISTS memory_users_partition;
DELETE FROM /*home*/.memory_partition_users;
UPDATE /*home*/.memory_partitions SET state = 'returning' WHERE number > 0;
SELECT pg_notify('memory_partitions', '')

-- name: count_listed
-- Users that the partition still has; the mark is its schema.
SELECT count(*) FROM /*home*/.memory_partition_users

-- name: page_of_listed
-- Some of them, in order.
SELECT project_id, user_id FROM /*home*/.memory_partition_users
WHERE (project_id, user_id) > ($1, $2) ORDER BY project_id, user_id LIMIT $3

-- name: is_valid_index
-- False if an interrupted command left the index of this name half built.
SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)
