"""Real, small implementations of the ports, for tests: deterministic, in memory, no network."""
