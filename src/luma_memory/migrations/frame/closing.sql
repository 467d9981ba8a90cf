-- Some hosted platforms let anonymous callers run every new function and write every new table; those
-- of this schema are for the service alone. Row-level security does not prevent a TRUNCATE. Others
-- grant nothing by default: end users read their own rows, and the service role works with everything.
DO $grants$
DECLARE
    v_function regprocedure;
    v_table regclass;
    v_role text;
    v_privileges text;
    v_names text[] := ARRAY['memory_block_input', 'memory_migrations', 'memory_users', 'memory_blocks', 'memory_passages',
              'memory_block_revisions', 'memory_relations', 'memory_summaries', 'memory_jobs',
              'memory_workers', 'memory_rate_limits', 'memory_usage', 'memory_api_keys',
              'memory_cache_hours', 'memory_idempotency', 'memory_erasures', 'memory_secrets',
              'memory_circuits', 'memory_embedding_models', 'memory_scope_models',
              'memory_next_passages', 'memory_changes', 'memory_job_pauses', 'memory_webhooks',
              'memory_event_streams', 'memory_events', 'memory_webhook_deliveries', 'memory_partitions', 'memory_partition_moves', 'memory_partition_users',
              'memory_history'];
BEGIN
    FOR v_table, v_role IN
        SELECT c.oid::regclass, r.rolname
        FROM pg_class AS c, pg_roles AS r
        WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind IN ('r', 'v')
          AND c.relname = ANY (v_names)
          AND r.rolname IN ('anon', 'authenticated')
    LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON %s FROM %I',
            v_table, v_role);
    END LOOP;
    FOR v_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('authenticated', 'service_role') LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), v_role);
    END LOOP;
    FOR v_table, v_privileges, v_role IN
        SELECT c.oid::regclass, p.privileges, r.rolname
        FROM pg_class AS c
        JOIN (SELECT polrelid, 'SELECT' AS privileges, 'authenticated' AS role FROM pg_policy
              UNION SELECT t.oid, CASE WHEN t.relname = 'memory_migrations' THEN 'SELECT'
                                       ELSE 'SELECT, INSERT, UPDATE, DELETE' END, 'service_role'
              FROM pg_class AS t) AS p ON p.polrelid = c.oid
        JOIN pg_roles AS r ON r.rolname = p.role
        WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind IN ('r', 'v')
          AND c.relname = ANY (v_names)
    LOOP
        EXECUTE format('GRANT %s ON %s TO %I', v_privileges, v_table, v_role);
    END LOOP;
    FOR v_table, v_role IN
        SELECT s.oid::regclass, r.rolname
        FROM pg_class AS s
        JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.deptype IN ('a', 'i')
        JOIN pg_class AS c ON c.oid = d.refobjid
        JOIN pg_roles AS r ON r.rolname = 'service_role'
        WHERE s.relkind = 'S' AND c.relname = ANY (v_names)
          AND c.relnamespace = quote_ident(current_schema())::regnamespace
    LOOP
        EXECUTE format('GRANT USAGE, SELECT ON SEQUENCE %s TO %I', v_table, v_role);
    END LOOP;
    FOR v_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('authenticated', 'service_role') LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION memory_token_subject() TO %I', v_role);
    END LOOP;
    FOR v_function IN
        SELECT p.oid::regprocedure FROM pg_proc AS p
        WHERE p.pronamespace = quote_ident(current_schema())::regnamespace
          AND p.proname IN ('ingest_memory_blocks', 'enqueue_memory_jobs', 'claim_memory_jobs',
              'complete_memory_jobs', 'complete_memory_enrichments', 'fail_memory_jobs',
              'fail_memory_blocks', 'release_memory_jobs', 'rescue_memory_jobs',
              'drop_memory_jobs', 'memory_waiting_blocks', 'heartbeat_memory_worker', 'get_memory_job_stats', 'retry_memory_jobs',
              'cancel_memory_jobs', 'enqueue_waiting_memory_blocks', 'prune_memory_jobs',
              'check_memory_rate_limit', 'memory_queue_place', 'memory_next_version',
              'raise_memory_versions', 'raise_memory_version',
              'add_memory_cache_counts', 'edit_memory_block', 'delete_memory_block', 'delete_memory_blocks',
              'erase_memory_user', 'memory_user_digest', 'sweep_memory_jobs', 'count_memory_rows',
              'import_memory_rows', 'memory_own_job_id',
              'enter_memory_circuit', 'note_memory_circuit', 'keep_memory_enrichment',
              'enqueue_memory_backfill', 'request_memory_backfill', 'move_memory_vectors',
              'enqueue_memory_reembeds', 'memory_speaker_key', 'store_memory_windows',
              'forget_memory_windows', 'settle_memory_supersession', 'unrelate_memory_block',
              'admit_memory_relations', 'relate_memory_block', 'decide_memory_relation',
              'memory_attempt_errors', 'pause_memory_jobs', 'resume_memory_jobs',
              'write_memory_items', 'drop_memory_item', 'delete_expired_memory_items', 
              'memory_week_blocks', 'stale_memory_summaries', 'store_memory_summary',
              'record_memory_events', 'record_memory_delivery', 'prompt_memory_webhooks',
              'settle_memory_deliveries', 'place_memory_events', 'prune_memory_events',
              'report_failed_memory_jobs', 'subscribe_memory_events', 'add_memory_history',
              'memory_is_distributed', 'settle_memory_functions', 'memory_later', 'store_memory_vectors',
              'begin_memory_ids', 'memory_users_here', 'restrict_memory_partition', 'memory_partition_number')
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

SELECT settle_memory_functions();

COMMIT;
