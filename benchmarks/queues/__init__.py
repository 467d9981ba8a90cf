"""Our queue beside PgQueuer and Procrastinate: each in its own database of the same server."""
