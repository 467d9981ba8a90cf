SELECT state, code, reason, wait_seconds, failures, is_probe FROM enter_memory_circuit($1, $2)
