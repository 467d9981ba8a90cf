-- name: holds_something
-- Whether a database holds any user data or keys.
SELECT EXISTS (SELECT FROM memory_users) OR EXISTS (SELECT FROM memory_blocks)
    OR EXISTS (SELECT FROM memory_api_keys) AS holds_something

-- name: server_major
-- Major version of the server.
SELECT current_setting('server_version_num')::integer / 10000 AS major

-- name: export_snapshot
-- Of this transaction, for other sessions.
SELECT pg_export_snapshot()

-- name: read_secrets
-- Secrets that must survive a restore.
SELECT name, value FROM memory_secrets

-- name: empty_tables
-- Empty every table of the service except the migration history.
DO $$
DECLARE
    v_table regclass;
BEGIN
    FOR v_table IN
        SELECT oid::regclass FROM pg_class
        WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relkind = 'r'
          AND relname LIKE 'memory\_%'
          AND relname NOT IN ('memory_migrations', 'memory_partitions', 'memory_partition_moves',
                              'memory_partition_users')
    LOOP
        EXECUTE format('TRUNCATE %s CASCADE', v_table);
    END LOOP;
END $$

-- name: restore_secret
-- Restore a secret unless the dump brought one.
INSERT INTO memory_secrets (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING
