"""Events: each emitted once, subscribed to by logs, metrics and traces."""
