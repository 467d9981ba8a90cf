-- name: enter_circuit
-- Whether a provider may be called now, and whether this call is the probe.
SELECT state, code, reason, wait_seconds, failures, is_probe FROM enter_memory_circuit($1, $2)

-- name: circuit_states
-- Circuits that changed within a day or are not closed.
SELECT name, state FROM memory_circuits
WHERE changed_at > now() - interval '1 day' OR state <> 'closed' ORDER BY name LIMIT 100

-- name: circuit_faults
-- Open circuits, and those whose last calls failed; an expired rate limit is not a fault.
SELECT name, CASE state WHEN 'closed' THEN failing ELSE state END AS state,
       coalesce(failing_since, changed_at) AS since, code
FROM memory_circuits
WHERE name = ANY ($1) AND (state IN ('away', 'refused') OR (state = 'limited' AND blocked_until > now())
       OR (state = 'closed' AND failures >= 2 AND failing IN ('away', 'refused')
           AND changed_at > now() - interval '1 hour'))
ORDER BY name LIMIT 20

-- name: circuit_reports
-- An expired rate limit is no longer one.
SELECT name, CASE WHEN state = 'limited' AND blocked_until <= now() THEN 'closed' ELSE state END AS state,
       coalesce(failing_since, CASE WHEN state <> 'closed' THEN changed_at END) AS since, failures,
       CASE WHEN state <> 'closed' AND blocked_until > now() THEN blocked_until END AS retry_at,
       last_code, last_reason, last_failed_at
FROM memory_circuits
WHERE name = ANY ($1) OR state <> 'closed' OR last_failed_at > now() - interval '1 day'
ORDER BY name LIMIT 100

-- name: note_circuit
-- Record the outcome of a call; opens or closes the circuit.
SELECT note_memory_circuit($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: any_open
-- Whether one of the circuits is open.
SELECT EXISTS (SELECT FROM memory_circuits
    WHERE name = ANY ($1) AND state <> 'closed' AND blocked_until > clock_timestamp()) AS is_open
