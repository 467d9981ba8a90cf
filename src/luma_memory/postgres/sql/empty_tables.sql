DO $$
DECLARE
    v_table regclass;
BEGIN
    FOR v_table IN
        SELECT oid::regclass FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
          AND relname LIKE 'memory\_%' AND relname <> 'memory_migrations'
    LOOP
        EXECUTE format('TRUNCATE %s CASCADE', v_table);
    END LOOP;
END $$
