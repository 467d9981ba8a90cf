"""Repositories of blocks and their search columns; every statement stands in sql/."""
