"""Rows of tables that few things write."""

from __future__ import annotations

# A row of every table that nothing in the pipeline writes yet, for two users and two projects.
MORE_ROWS = """
INSERT INTO memory_block_revisions
    (project_id, user_id, block_id, revision, reason, changed_by, before)
    SELECT project_id, user_id, id, 1, 'edit', 'user', '{}' FROM memory_blocks;
INSERT INTO memory_relations
    (id, project_id, user_id, source_id, target_id, type, confidence, model)
    SELECT gen_random_uuid(), project_id, user_id, id, id, 'related', 1, 'm' FROM memory_blocks;
INSERT INTO memory_summaries (id, project_id, user_id, week_start, text, model)
    SELECT gen_random_uuid(), project_id, user_id, '2023-05-08', 'text', 'm' FROM memory_users;
INSERT INTO memory_rate_limits SELECT project_id, user_id, 'o', now(), 1 FROM memory_users;
INSERT INTO memory_usage SELECT '2023-05-08', project_id, user_id, 'o', 'm' FROM memory_users;
INSERT INTO memory_api_keys (prefix, key_hash) VALUES ('p', 'h');
INSERT INTO memory_circuits (name) VALUES ('c');
SELECT add_memory_history('{}', '{}');
INSERT INTO memory_job_pauses (job_type) VALUES ('reembed');
INSERT INTO memory_partitions (number, schema_name, state) VALUES (0, 'public', 'serving');
INSERT INTO memory_partition_moves (number, move_id, schema_name, old_schema, phase)
    VALUES (1, gen_random_uuid(), 's', 'o', 'copying');
INSERT INTO memory_embedding_models (id) VALUES ('m');
INSERT INTO memory_scope_models SELECT project_id, user_id, 'm' FROM memory_users;
INSERT INTO memory_next_passages SELECT project_id, user_id, id, 0, 1, 'm' FROM memory_blocks;
INSERT INTO memory_cache_hours (hour, hits, misses) VALUES (date_trunc('hour', now()), 1, 1);
INSERT INTO memory_idempotency (project_id, user_id, idempotency_key, operation)
    SELECT project_id, user_id, 'k', 'o' FROM memory_users;
INSERT INTO memory_webhooks (id, project_id, url, created_at, updated_at)
    SELECT gen_random_uuid(), project_id, 'https://example.com', now(), now() FROM memory_users;
INSERT INTO memory_event_streams VALUES ('default', now());
INSERT INTO memory_events (event_id, project_id, user_id, type, data, created_at)
    SELECT gen_random_uuid(), project_id, user_id, 't', '{}', now() FROM memory_users;
INSERT INTO memory_webhook_deliveries
    (webhook_id, event_id, project_id, user_id, due_at, created_at)
    SELECT gen_random_uuid(), 1, project_id, user_id, now(), now() FROM memory_users;
INSERT INTO memory_erasures (id, user_digest, counts, started_at, erased_at)
    VALUES (gen_random_uuid(), 'd', '{}', now(), now());
"""
