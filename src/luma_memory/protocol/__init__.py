"""What goes over the wire: models, error codes, cursors. Shared by the API and its clients."""
