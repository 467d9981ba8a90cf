"""The wire format: models, error codes, cursors. Shared by the API and its clients."""
