-- Hosted platforms let anonymous callers run every new function; ours are for the service alone.
DO $grants$
DECLARE
    v_function regprocedure;
    v_role text;
BEGIN
    FOR v_function IN
        SELECT p.oid::regprocedure FROM pg_proc AS p
        WHERE p.pronamespace = current_schema()::regnamespace
          AND p.proname IN ('ingest_memory_blocks', 'enqueue_memory_jobs', 'claim_memory_jobs',
              'complete_memory_jobs', 'complete_memory_enrichments', 'fail_memory_jobs',
              'fail_memory_blocks', 'release_memory_jobs', 'rescue_memory_jobs',
              'heartbeat_memory_worker', 'get_memory_job_stats')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', v_function);
        FOR v_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %I', v_function, v_role);
        END LOOP;
        FOR v_role IN SELECT rolname FROM pg_roles WHERE rolname = 'service_role' LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', v_function, v_role);
        END LOOP;
    END LOOP;
END $grants$;

COMMIT;
