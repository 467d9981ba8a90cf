-- name: create_webhook
-- Store a webhook unless the project has $9 of them; the lock makes the count exact.
WITH locked AS (SELECT pg_advisory_xact_lock(hashtextextended('webhooks:' || $2, 0)))
INSERT INTO memory_webhooks (id, project_id, user_id, url, description, event_types,
    include_content, created_by, created_at, updated_at)
SELECT $1, $2::text, $3, $4, $5, $6, $7, $8, $10, $10
FROM locked
WHERE (SELECT count(*) FROM memory_webhooks WHERE project_id = $2) < $9
ON CONFLICT (id) DO NOTHING
RETURNING id

-- name: list_webhooks
-- Webhooks of a project, of one user where $2 is given, or one by its id $3.
SELECT id, project_id, user_id, url, description, event_types, include_content, created_by,
       secret_version, previous_secret_until, created_at, updated_at, disabled_at, disabled_reason,
       failures, failing_since, circuit_until, last_success_at
FROM memory_webhooks
WHERE project_id = $1 AND ($2::text IS NULL OR user_id = $2) AND ($3::uuid IS NULL OR id = $3)
ORDER BY created_at, id

-- name: change_webhook
-- NULL leaves a column as it is. Enabling it, or another URL, forgets the failures.
UPDATE memory_webhooks
SET url = coalesce($3, url), description = coalesce($4, description),
    event_types = coalesce($5, event_types), include_content = coalesce($6, include_content),
    disabled_at = CASE WHEN $7 THEN NULL WHEN NOT $7 THEN coalesce(disabled_at, $9)
                       ELSE disabled_at END,
    disabled_reason = CASE WHEN $7 THEN NULL WHEN NOT $7 THEN coalesce(disabled_reason, 'requested')
                           ELSE disabled_reason END,
    failures = CASE WHEN $7 OR $3 IS NOT NULL THEN 0 ELSE failures END,
    failing_since = CASE WHEN $7 OR $3 IS NOT NULL THEN NULL ELSE failing_since END,
    circuit_until = CASE WHEN $7 OR $3 IS NOT NULL THEN NULL ELSE circuit_until END,
    -- A rotation that is repeated while both secrets are valid changes nothing.
    secret_version = CASE WHEN $8::boolean AND coalesce(previous_secret_until, $9) <= $9
                          THEN secret_version + 1 ELSE secret_version END,
    previous_secret_until = CASE WHEN $8 AND coalesce(previous_secret_until, $9) <= $9
                                 THEN $10::timestamptz ELSE previous_secret_until END,
    created_by = CASE WHEN $6 THEN $11 ELSE created_by END,
    updated_at = $9
WHERE id = $1 AND project_id = $2
RETURNING id

-- name: delete_webhook
-- With its deliveries; their events stay for other subscribers.
WITH gone AS (DELETE FROM memory_webhooks WHERE id = $1 AND project_id = $2 RETURNING id)
DELETE FROM memory_webhook_deliveries AS d USING gone AS g WHERE d.webhook_id = g.id

-- name: list_deliveries
-- Deliveries of a webhook below an id, newest first.
SELECT d.id, d.status, d.attempts, d.due_at, d.attempted_at, d.response_status, d.error,
       d.created_at, d.delivered_at, e.event_id, e.type, e.project_id, e.user_id, e.block_id,
       e.data, e.created_at AS event_created_at, coalesce(e.position, 0) AS position
FROM memory_webhook_deliveries AS d JOIN memory_events AS e ON e.id = d.event_id
WHERE d.webhook_id = $1 AND d.id < $2 AND ($3::text IS NULL OR d.status = $3)
ORDER BY d.id DESC LIMIT $4

-- name: find_delivery
-- One delivery of a webhook.
SELECT d.id, d.status, d.attempts, d.due_at, d.attempted_at, d.response_status, d.error,
       d.created_at, d.delivered_at, e.event_id, e.type, e.project_id, e.user_id, e.block_id,
       e.data, e.created_at AS event_created_at, coalesce(e.position, 0) AS position
FROM memory_webhook_deliveries AS d JOIN memory_events AS e ON e.id = d.event_id
WHERE d.webhook_id = $1 AND d.id = $2

-- name: add_test
-- A test event, and its delivery.
SELECT record_memory_delivery($1, $2, NULL, $3, $4) AS id

-- name: replay_delivery
-- The event of a delivery once more.
SELECT record_memory_delivery($1, $2, d.event_id, NULL, NULL) AS id
FROM memory_webhook_deliveries AS d WHERE d.webhook_id = $2 AND d.id = $3

-- name: hold_webhook
-- Taken by this job, if no other one that runs has it.
UPDATE memory_webhooks AS w SET held_by = $2, held_until = $4
WHERE w.id = $1 AND w.disabled_at IS NULL AND coalesce(w.circuit_until, $3) <= $3
  AND (w.held_by IS NULL OR w.held_by = $2 OR w.held_until <= $3
       OR NOT EXISTS (SELECT FROM memory_jobs AS j
                      WHERE j.id = w.held_by AND j.status IN ('pending', 'processing')))
RETURNING id, project_id, user_id, url, description, event_types, include_content, created_by,
          secret_version, previous_secret_until, created_at, updated_at, disabled_at,
          disabled_reason, failures, failing_since, circuit_until, last_success_at

-- name: release_webhook
-- The next job may take it at once.
UPDATE memory_webhooks SET held_by = NULL, held_until = NULL, prompted_until = NULL
WHERE id = $1 AND held_by = $2

-- name: due_deliveries
-- What is due, in order, with the text where the webhook includes it and its key may still read it. $4: whether
-- it may; NULL looks at the key, which is in the home partition.
SELECT d.id, d.attempts, d.created_at, e.event_id, e.type, e.project_id, e.user_id, e.block_id,
       e.data, e.created_at AS event_created_at, coalesce(e.position, 0) AS position,
       left(b.content, 20000) AS content
FROM memory_webhook_deliveries AS d
JOIN memory_events AS e ON e.id = d.event_id
JOIN memory_webhooks AS w ON w.id = d.webhook_id AND w.disabled_at IS NULL
LEFT JOIN memory_blocks AS b
  ON w.include_content AND b.project_id = e.project_id AND b.user_id = e.user_id
 AND b.id = e.block_id
 AND (w.created_by IS NULL OR $4::boolean OR $4 IS NULL AND EXISTS (SELECT FROM memory_api_keys AS k
      WHERE k.prefix = w.created_by AND k.revoked_at IS NULL AND 'read' = ANY (k.scopes)))
WHERE d.webhook_id = $1 AND d.status = 'pending' AND d.due_at <= $2
ORDER BY d.due_at, d.id LIMIT $3

-- name: settle_deliveries
-- How attempts ended, and what they say of the webhook.
SELECT settle_memory_deliveries($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: prompt_webhooks
-- Jobs for what is due without one.
SELECT present, enqueued FROM prompt_memory_webhooks($1)

-- name: prune_events
-- Events past their retention.
SELECT prune_memory_events($1, $2) AS deleted

-- name: definitions
-- All webhooks without the state of their deliveries, for the copies in other partitions.
SELECT coalesce(jsonb_agg(jsonb_build_object('id', id, 'project_id', project_id, 'user_id', user_id,
           'url', url, 'description', description, 'event_types', event_types,
           'include_content', include_content, 'created_by', created_by,
           'secret_version', secret_version, 'previous_secret_until', previous_secret_until,
           'created_at', created_at, 'updated_at', updated_at, 'disabled_at', disabled_at,
           'disabled_reason', disabled_reason)), '[]') AS webhooks, now() AS read_at
FROM memory_webhooks

-- name: take_definitions
-- Copy the webhooks of the home partition, as they were at $2. One that is newer here is not yet in them.
WITH expected AS (
    SELECT * FROM jsonb_to_recordset($1) AS w (id uuid, project_id text, user_id text, url text,
        description text, event_types text[], include_content boolean, created_by text,
        secret_version integer, previous_secret_until timestamptz, created_at timestamptz,
        updated_at timestamptz, disabled_at timestamptz, disabled_reason text)
), gone AS (
    DELETE FROM memory_webhooks AS m
    WHERE m.updated_at < $2::timestamptz - interval '10 s'
      AND NOT EXISTS (SELECT FROM expected AS w WHERE w.id = m.id)
    RETURNING m.id
), undelivered AS (
    DELETE FROM memory_webhook_deliveries AS d USING gone AS g WHERE d.webhook_id = g.id
)
INSERT INTO memory_webhooks AS m (id, project_id, user_id, url, description, event_types,
    include_content, created_by, secret_version, previous_secret_until, created_at, updated_at,
    disabled_at, disabled_reason)
SELECT id, project_id, user_id, url, description, event_types, include_content, created_by,
       secret_version, previous_secret_until, created_at, updated_at, disabled_at, disabled_reason
FROM expected
ON CONFLICT (id) DO UPDATE
SET url = excluded.url, description = excluded.description, event_types = excluded.event_types,
    include_content = excluded.include_content, created_by = excluded.created_by,
    secret_version = excluded.secret_version,
    previous_secret_until = excluded.previous_secret_until, updated_at = excluded.updated_at,
    disabled_at = excluded.disabled_at, disabled_reason = excluded.disabled_reason
WHERE m.updated_at < excluded.updated_at
