"""PostgreSQL: connections, transactions, statements from files, migrations, the embedded server."""
