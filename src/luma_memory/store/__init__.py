"""Repositories; the statements of each are in the .sql file of the same name."""
