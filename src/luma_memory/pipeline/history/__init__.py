"""The history of the service's numbers."""
