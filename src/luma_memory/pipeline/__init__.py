"""The operations of the service: pure steps with short orchestrators; depends on ports only."""
