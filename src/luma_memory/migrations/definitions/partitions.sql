-- Which partition has a user, and what a partition may hold.

-- The partition of a user among p_count of them. The first six bytes of SHA-256 over project, a zero byte and
-- user, as a number, modulo the count: as the service computes it (domain.partition).
CREATE OR REPLACE FUNCTION memory_partition_number(p_project_id text, p_user_id text, p_count integer)
RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT ((('x' || lpad(encode(substring(sha256(convert_to(p_project_id, 'UTF8') || '\x00'::bytea
        || convert_to(p_user_id, 'UTF8')) FOR 6), 'hex'), 16, '0'))::bit(64)::bigint) % p_count)::integer
$body$;

-- From now on, this partition holds only users that are its own: a process that knows another number of
-- partitions cannot store a user where no process looks for them. A check of each written row of memory_users,
-- about a microsecond. Repeating it changes nothing.
CREATE OR REPLACE FUNCTION restrict_memory_partition(p_number integer, p_count integer)
RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint
                   WHERE conrelid = 'memory_users'::regclass AND conname = 'memory_users_partition') THEN
        EXECUTE format('ALTER TABLE memory_users ADD CONSTRAINT memory_users_partition
            CHECK (memory_partition_number(project_id, user_id, %s) = %s)', p_count, p_number);
    END IF;
END $body$;

-- New jobs and deliveries of this partition have ids from p_first on: unique among all partitions.
CREATE OR REPLACE FUNCTION begin_memory_ids(p_first bigint)
RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    IF (SELECT last_value FROM memory_jobs_id_seq) < p_first THEN
        PERFORM setval('memory_jobs_id_seq', p_first, false);
    END IF;
    IF (SELECT last_value FROM memory_webhook_deliveries_id_seq) < p_first THEN
        PERFORM setval('memory_webhook_deliveries_id_seq', p_first, false);
    END IF;
END $body$;
