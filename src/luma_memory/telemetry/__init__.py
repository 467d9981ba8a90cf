"""Ground floor: what happened, told once, read by logs, metrics and traces."""
