-- name: enter_circuit
-- Whether a provider may be called now, and whether this call is the probe.
SELECT state, code, reason, wait_seconds, failures, is_probe FROM enter_memory_circuit($1, $2)

-- name: circuit_states
-- Circuits that changed within a day or are not closed.
SELECT name, state FROM memory_circuits
WHERE changed_at > now() - interval '1 day' OR state <> 'closed' ORDER BY name LIMIT 100

-- name: note_circuit
-- Record the outcome of a call; opens or closes the circuit.
SELECT note_memory_circuit($1, $2, $3, $4, $5, $6, $7, $8, $9)
